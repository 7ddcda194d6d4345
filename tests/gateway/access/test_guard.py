"""Keys over HTTP, at a real gateway that requires them."""

import re
from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from gateway.access import guard
from gateway.access.scope import Scope
from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.access.conftest import NOWHERE, Guarded
from tests.gateway.test_failures import PICTURE, gateway, wait_until

GLUE = {"names": {"en": ["glue"]}}


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


@pytest.mark.parametrize("path", ["/", "/page/words/en.json", "/healthz", "/openapi.json", "/docs"])
def test_what_is_open_needs_no_key(guarded: Guarded, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_readiness_needs_no_key(guarded: Guarded) -> None:
    assert guarded.client.get("/readyz").status_code == 503  # Triton is away


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic bGluZTpzZWNyZXQ="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer pcbd_0_0"},
        {"Authorization": f"Bearer pcbd_{'0' * 12}_{'0' * 64}"},
        {"X-API-Key": f"pcbd_{'0' * 12}_{'0' * 64}"},
        {"X-API-Key": "短路".encode()},
    ],
)
def test_without_a_good_key_nothing_is_told(guarded: Guarded, headers: dict[str, str]) -> None:
    for answer in (
        guarded.client.get("/defects", headers=headers),
        guarded.client.post("/detect", files={"image": PICTURE}, headers=headers),
        guarded.client.get("/metrics", headers=headers),
    ):
        assert "API key" in problem(answer, 401) or "Bearer" in answer.json()["detail"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_secret_is_refused_and_not_repeated(guarded: Guarded) -> None:
    wrong = guarded.headers[Scope.CATALOG]["X-API-Key"][:-64] + "0" * 64
    detail = problem(guarded.client.get("/defects", headers={"X-API-Key": wrong}), 401)
    assert "0" * 64 not in detail


def test_a_key_may_do_what_its_scope_says_and_is_told_what_is_missing(guarded: Guarded) -> None:
    detect, catalog, admin = (guarded.headers[scope] for scope in (Scope.DETECT, Scope.CATALOG, Scope.ADMIN))
    client = guarded.client
    assert client.get("/defects", headers=detect).status_code == 200
    assert "catalog" in problem(client.put("/defects/glue", json=GLUE, headers=detect), 403)
    assert "detect" in problem(client.post("/detect", files={"image": PICTURE}, headers=catalog), 403)
    assert "admin" in problem(client.get("/metrics", headers=catalog), 403)
    assert client.post("/detect", files={"image": PICTURE}, headers=detect).status_code == 503  # Triton is away
    assert client.get("/metrics", headers=admin).status_code == 200
    assert client.put("/defects/glue", json=GLUE, headers=admin).status_code == 201
    assert client.delete("/defects/glue", headers=admin).status_code == 204


def test_a_reviewer_sees_the_classes_that_were_missed(guarded: Guarded) -> None:
    review, client = guarded.headers[Scope.REVIEW], guarded.client
    assert len(client.get("/defects", headers=review).json()["defects"]) == 12
    assert client.get("/inspections", headers=review).status_code == 200
    assert "catalog" in problem(client.put("/defects/glue", json=GLUE, headers=review), 403)
    assert "detect" in problem(client.post("/detect", files={"image": PICTURE}, headers=review), 403)


def test_a_key_comes_in_either_header(guarded: Guarded) -> None:
    sent = guarded.headers[Scope.DETECT]["X-API-Key"]
    assert guarded.client.get("/defects", headers={"X-API-Key": sent}).status_code == 200
    for scheme in ("Bearer", "bearer"):
        assert guarded.client.get("/defects", headers={"Authorization": f"{scheme} {sent}"}).status_code == 200


def test_a_key_counts_in_a_running_gateway_until_it_is_revoked(guarded: Guarded) -> None:
    key, sent = guarded.store.create("short-lived", frozenset({Scope.DETECT}), None)
    headers = {"X-API-Key": sent}
    wait_until(lambda: guarded.client.get("/defects", headers=headers).status_code == 200)
    guarded.store.revoke(key.id)
    wait_until(lambda: guarded.client.get("/defects", headers=headers).status_code == 401)


def test_the_history_names_the_key_and_who_used_it(guarded: Guarded) -> None:
    client, headers = guarded.client, guarded.headers[Scope.CATALOG]
    client.put("/defects/flux", json={"names": {"en": ["flux"]}}, headers=headers | {"X-Actor": "somebody else"})
    client.delete("/defects/flux", headers=headers)
    history = client.get("/defects/flux/history", headers=headers).json()
    assert [entry["actor"] for entry in history] == ["三号线: somebody else", "三号线"]
    assert "X-Actor" in problem(client.delete("/defects/open", headers=headers | {"X-Actor": "x" * 98}), 422)


def test_refused_keys_are_counted_by_reason(guarded: Guarded) -> None:
    admin = guarded.headers[Scope.ADMIN]

    def refused(reason: str) -> float:
        text = guarded.client.get("/metrics", headers=admin).text
        found = re.search(rf'pcbd_refused_keys_total{{reason="{reason}"}} ([0-9.]+)', text)
        return float(found[1]) if found else 0.0

    before = refused("missing")
    guarded.client.get("/defects")
    assert refused("missing") == before + 1


def test_openapi_says_which_key_an_operation_needs(guarded: Guarded) -> None:
    document = guarded.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert {"bearer": ["detect"]} in document["paths"]["/detect"]["post"]["security"]
    assert "security" not in document["paths"]["/healthz"]["get"]


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://other.plant.example"},
    {"Origin": "http://evil.example"},  # a browser on a page without https sends no Sec-Fetch-Site
    {"Origin": "null"},
    {"Origin": "http://["},
]


@pytest.fixture(scope="module")
def unguarded() -> Iterator[httpx.Client]:
    with gateway(NOWHERE) as (client, _):
        yield client


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_another_sites_page_changes_nothing(unguarded: httpx.Client, headers: dict[str, str]) -> None:
    for answer in (
        unguarded.post("/detect", files={"image": PICTURE}, headers=headers),
        unguarded.put("/defects/glue", json=GLUE, headers=headers),
        unguarded.delete("/defects/open", headers=headers),
    ):
        assert "page" in problem(answer, 403)
    assert unguarded.get("/defects", headers=headers).status_code == 200  # reading, which that page cannot see


def test_the_services_own_page_and_other_clients_may_change(unguarded: httpx.Client) -> None:
    own = str(unguarded.base_url)
    for headers in ({}, {"Origin": own}, {"Sec-Fetch-Site": "same-origin", "Origin": own}, {"Sec-Fetch-Site": "none"}):
        assert unguarded.put("/defects/glue", json=GLUE, headers=headers).status_code in {200, 201}
    assert unguarded.delete("/defects/glue").status_code == 204


@pytest.mark.parametrize(
    ("host", "keys", "warns"),
    [
        ("127.0.0.1", "off", False),
        ("::1", "off", False),
        ("localhost", "off", False),
        ("192.0.2.1", "off", True),
        ("192.0.2.1", "required", False),
    ],
)
def test_a_gateway_that_everybody_reaches_without_keys_warns(
    host: str, keys: str, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(guard.LOG, "warning", lambda text, *values: lines.append(text % values))
    create_app(Settings(host=host, api_keys=keys))
    assert [host in line for line in lines] == [True] * warns


def test_protected_metrics_need_keys() -> None:
    with pytest.raises(ValidationError, match="PCBD_API_KEYS"):
        Settings(metrics_protected=True)
