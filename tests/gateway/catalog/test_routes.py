"""The catalog over HTTP, by a real gateway; Triton is away, which is no matter of the catalog's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.catalog.document import read_document
from gateway.catalog.seeds import SEEDS
from tests.gateway.test_failures import gateway

GLUE: dict[str, Any] = {"names": {"en": ["glue"], "zh": ["红胶溢出"]}, "descriptions": {"zh": ["红胶流到焊盘上"]}}
NOWHERE = "127.0.0.1:1"
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("catalog")
    with gateway(NOWHERE, database_url=f"sqlite:///{folder}/gateway.db") as (client, _):
        yield client


@pytest.fixture(autouse=True)
def seeded(client: httpx.Client) -> Iterator[None]:
    """Every test begins with the twelve."""
    original = client.get("/defects", headers={"Accept": "application/yaml"}).content
    yield
    assert client.put("/defects", content=original, headers=YAML).status_code == 200


def problem(answer: httpx.Response, status: int) -> str:
    content = answer.json()
    assert answer.status_code == content["status"] == status, content
    assert answer.headers["Content-Type"] == "application/problem+json"
    detail: str = content["detail"]
    return detail


def test_the_catalog_is_listed_with_its_revision(client: httpx.Client) -> None:
    answer = client.get("/defects")
    content = answer.json()
    assert answer.headers["ETag"] == f'"{content["revision"]}"'
    assert [defect["id"] for defect in content["defects"]] == [seed.id for seed in SEEDS]
    assert content["defects"][1]["names"]["zh"][0] == "短路"
    assert set(content["defects"][0]) == {
        "id",
        "version",
        "names",
        "descriptions",
        "score_threshold",
        "minimum_size_px",
        "severity",
        "colour",
        "enabled",
    }


def test_a_defect_is_taught_changed_and_deleted(client: httpx.Client) -> None:
    made = client.put("/defects/red_glue", json=GLUE, headers={"X-Actor": "王工".encode()})
    assert (made.status_code, made.json()["severity"], made.json()["id"]) == (201, "major", "red_glue")
    assert client.get("/defects/red_glue").json() == made.json()
    tag = made.headers["ETag"]
    changed = client.patch(
        "/defects/red_glue", json={"severity": "minor", "names": {"en": None}}, headers={"If-Match": tag}
    )
    assert changed.status_code == 200
    assert changed.json()["names"] == {"en": [], "zh": ["红胶溢出"]}
    assert changed.json()["descriptions"] == made.json()["descriptions"] | {"en": []}
    assert client.put("/defects/red_glue", json=GLUE).status_code == 200
    gone = client.delete("/defects/red_glue")
    assert (gone.status_code, gone.content) == (204, b"")
    problem(client.get("/defects/red_glue"), 404)
    history = client.get("/defects/red_glue/history").json()
    assert [entry["actor"] for entry in history] == ["王工", "anonymous", "anonymous", "anonymous"]
    assert history[-1]["after"] is None
    assert history[1]["before"]["severity"] == "major"
    assert history[0]["at"].endswith(("Z", "+00:00"))


def test_null_in_a_patch_goes_back_to_the_default(client: httpx.Client) -> None:
    client.patch("/defects/spur", json={"score_threshold": 0.7})
    assert client.get("/defects/spur").json()["score_threshold"] == 0.7
    client.patch(
        "/defects/spur", json={"score_threshold": None}, headers={"Content-Type": "application/merge-patch+json"}
    )
    assert client.get("/defects/spur").json()["score_threshold"] is None


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_stale_write_is_refused(client: httpx.Client, method: str) -> None:
    content = None if method == "DELETE" else GLUE
    tag = client.get("/defects/spur").headers["ETag"]
    client.patch("/defects/spur", json={"minimum_size_px": 3})
    stale = client.request(method, "/defects/spur", json=content, headers={"If-Match": tag})
    assert "read it again" in problem(stale, 412)
    assert client.get("/defects/spur").json()["minimum_size_px"] == 3
    fresh = client.get("/defects/spur").headers["ETag"]
    assert client.request(method, "/defects/spur", json=content, headers={"If-Match": fresh}).status_code in {200, 204}


def test_a_precondition_may_ask_for_anything_or_nothing(client: httpx.Client) -> None:
    problem(client.put("/defects/red_glue", json=GLUE, headers={"If-Match": "*"}), 412)
    assert client.put("/defects/red_glue", json=GLUE, headers={"If-None-Match": "*"}).status_code == 201
    problem(client.put("/defects/red_glue", json=GLUE, headers={"If-None-Match": "*"}), 412)
    problem(client.put("/defects/red_glue", json=GLUE, headers={"If-Match": 'W/"1"'}), 412)
    assert "If-Match" in problem(client.put("/defects/red_glue", json=GLUE, headers={"If-Match": "1"}), 422)


def test_a_name_of_another_defect_is_a_conflict(client: httpx.Client) -> None:
    assert "already names short" in problem(client.put("/defects/red_glue", json={"names": {"zh": ["短路"]}}), 409)


JSON = {"Content-Type": "application/json"}
BAD: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "no body": ("PUT", "/defects/x", {"headers": JSON}, 400, "JSON"),
    "broken JSON": ("PUT", "/defects/x", {"content": b"{", "headers": JSON}, 400, "JSON"),
    "a list": ("PUT", "/defects/x", {"json": []}, 422, "object"),
    "no name": ("PUT", "/defects/x", {"json": {}}, 422, "names"),
    "an id like no other": ("PUT", "/defects/X-1", {"json": GLUE}, 422, "'X-1'"),
    "an id that every request seems to mean": ("PUT", "/defects/pcb", {"json": GLUE}, 422, "'pcb'"),
    "an id of the metrics": ("PUT", "/defects/other", {"json": GLUE}, 422, "'other'"),
    "an unknown member": ("PUT", "/defects/x", {"json": GLUE | {"id": "x"}}, 422, "id: unknown"),
    "not JSON": ("PUT", "/defects/x", {"content": b"a: b", "headers": YAML}, 415, "application/json"),
    "a form": ("PATCH", "/defects/spur", {"data": {"severity": "minor"}}, 415, "merge-patch"),
    "a bad patch": ("PATCH", "/defects/spur", {"json": {"names": None}}, 422, "names"),
    "a patch of nothing there": ("PATCH", "/defects/x", {"json": {}}, 404, "'x'"),
    "a deletion of nothing": ("DELETE", "/defects/x", {}, 404, "'x'"),
    "no history": ("GET", "/defects/x/history", {}, 404, "'x'"),
    "a nameless actor": ("DELETE", "/defects/spur", {"headers": {"X-Actor": ""}}, 422, "X-Actor"),
    "an actor in GBK": ("DELETE", "/defects/spur", {"headers": {"X-Actor": b"\xcd\xf5"}}, 422, "UTF-8"),
    "a catalog in JSON": ("PUT", "/defects", {"json": {"defects": []}}, 415, "application/yaml"),
    "a bad catalog": ("PUT", "/defects", {"content": b"defects: [{}]", "headers": YAML}, 422, "line 1"),
    "a huge catalog": ("PUT", "/defects", {"content": b"#" * 2**21, "headers": YAML}, 413, "bytes"),
    "a huge defect": ("PUT", "/defects/x", {"json": {"names": {"en": ["x" * 2**21]}}}, 413, "bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_explained(client: httpx.Client, name: str) -> None:
    method, path, request, status, words = BAD[name]
    assert words in problem(client.request(method, path, **request), status)


def test_every_fault_of_a_defect_is_named_at_once(client: httpx.Client) -> None:
    detail = problem(client.put("/defects/X", json={"names": {"en": [1]}, "severity": "bad", "colour": "red"}), 422)
    for words in ("'X'", "names.en.0", "severity", "colour"):
        assert words in detail


def test_the_catalog_goes_out_and_in_as_yaml(client: httpx.Client) -> None:
    answer = client.get("/defects", headers={"Accept": "application/yaml"})
    assert answer.headers["Content-Type"].startswith("application/yaml")
    assert read_document(answer.content) == SEEDS
    one = b"defects:\n- {id: glue, names: {en: [glue]}}\n"
    replaced = client.put("/defects", content=one, headers=YAML | {"If-Match": answer.headers["ETag"]})
    assert (replaced.status_code, replaced.json()["added"], len(replaced.json()["deleted"])) == (200, ["glue"], 12)
    assert replaced.headers["ETag"] == client.get("/defects").headers["ETag"]
    problem(client.put("/defects", content=one, headers=YAML | {"If-Match": answer.headers["ETag"]}), 412)


def test_openapi_describes_the_catalog(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]["/defects/{defect_id}"]) == {"get", "put", "patch", "delete"}
    content = described["paths"]["/defects/{defect_id}"]["put"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    assert schema["required"] == ["names"]
    assert schema["properties"]["names"]["$ref"].rpartition("/")[2] in described["components"]["schemas"]
    assert {"200", "201", "409", "412", "422", "503"} <= set(
        described["paths"]["/defects/{defect_id}"]["put"]["responses"]
    )


def test_a_database_that_cannot_be_opened_leaves_the_rest_at_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with gateway(NOWHERE, database_url=f"sqlite:///{tmp_path}/file/gateway.db") as (client, _):
        for answer in (
            client.get("/defects"),
            client.put("/defects/x", json=GLUE),
            client.delete("/defects/spur"),
            client.get("/defects/spur/history"),
        ):
            assert "PCBD_DATABASE_URL" in problem(answer, 503)
            assert "Retry-After" in answer.headers
        assert "pcbd_database_up 0.0" in client.get("/metrics").text
        assert client.get("/healthz").status_code == 200
