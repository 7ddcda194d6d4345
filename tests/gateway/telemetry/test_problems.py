"""What a request was told instead of an answer is in the log, with its cause and without what is secret."""

import asyncio
import io
import json
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.errors import AwayError, ModelError
from gateway.settings import Settings
from gateway.telemetry.problems import CAUSE_CHARACTERS
from tests.gateway.access.conftest import NOWHERE

PRIVATE = "of-nobody-elses-business"


def ask(*arguments: str, error: Exception | None = None, api_keys: str = "off", **request: Any) -> httpx.Response:  # noqa: ANN401
    """One request to an application of its own, whose route /fails raises `error`."""
    app = create_app(Settings(triton_url=NOWHERE, api_keys=api_keys))

    @app.get("/fails")
    async def fail() -> None:
        assert error is not None
        raise error

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            return await client.request(*arguments, **request)

    return asyncio.run(once())


def told(log_lines: io.StringIO) -> list[dict[str, Any]]:
    records = map(json.loads, log_lines.getvalue().splitlines())
    return [record for record in records if record["logger"] == "gateway.telemetry.problems"]


@pytest.mark.parametrize(
    ("error", "level"), [(ModelError("Triton answered: no"), "error"), (AwayError("gone"), "info")]
)
def test_a_fault_is_an_error_where_no_client_can_mend_it(error: Exception, level: str, log_lines: io.StringIO) -> None:
    answer = ask("GET", "/fails", error=error, headers={"X-Request-ID": "line-4"})
    (line,) = told(log_lines)
    assert (line["level"], line["status"], line["request_id"]) == (level, answer.status_code, "line-4")
    assert line["message"] == f"{answer.json()['title']}: {error}"


def test_a_picture_of_a_batch_has_a_line_of_its_own(log_lines: io.StringIO) -> None:
    answer = ask(
        "POST",
        "/detect/batch",
        files=[("image", ("notes.txt", b"hello"))],
        data={"camera_id": "C2"},
        headers={"X-Request-ID": "line-4"},
    )
    problem = answer.json()["problem"]
    (line,) = told(log_lines)
    assert (line["request_id"], line["status"], line["camera_id"]) == ("line-4-0", 415, "C2")
    assert (line["level"], line["message"]) == ("info", f"{problem['title']}: {problem['detail']}")


def test_probes_are_not_told_of(log_lines: io.StringIO) -> None:
    assert ask("GET", "/readyz").status_code == 503
    assert told(log_lines) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {"Authorization": PRIVATE}, "api_keys": "required"},
        {"headers": {"X-API-Key": PRIVATE}, "api_keys": "required"},
        {"json": {"image": f"https://me:{PRIVATE}@host/board.png", "recipe": f"https://me:{PRIVATE}@host"}},
        {"json": {"image": PRIVATE}},
        {"json": {"image": "", "x" * 10_000: PRIVATE}},
    ],
    ids=["a bare credential", "a wrong key", "a password in a URL", "a picture", "a long name"],
)
def test_nothing_secret_and_nothing_long_comes_into_the_log(request_: dict[str, Any], log_lines: io.StringIO) -> None:
    assert ask("POST", "/detect", **request_).status_code in {401, 422}
    (line,) = told(log_lines)
    assert PRIVATE not in log_lines.getvalue()
    assert len(line["message"]) < CAUSE_CHARACTERS + 40
