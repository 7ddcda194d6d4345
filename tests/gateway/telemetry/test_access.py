"""What a request leaves behind: a line of log, and headers for whoever measures."""

import asyncio
import io
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.telemetry.access import Access
from gateway.telemetry.metrics import Metrics
from tests.conftest import BOARD

Endpoint = Callable[[Request], Awaitable[Response]]


def ask(endpoint: Endpoint, **headers: str) -> httpx.Response:
    own = Middleware(Access, metrics=Metrics())
    app = Starlette(routes=[Route("/detect", endpoint)], middleware=[own])
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return await client.get("/detect", headers=raw)

    return asyncio.run(once())


async def well(request: Request) -> Response:
    request.state.labels |= {"board_id": "板 17\n2026 INFO all is well", "recipe": None}
    request.state.headers["X-Own"] = "5"
    return PlainTextResponse("ok")


async def broken(_: Request) -> Response:
    raise RuntimeError("of the gateway's own\n2026 INFO all is well")


def test_a_request_is_one_line_that_names_it(log_lines: io.StringIO) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    reply = ask(well, **{"X-Request-ID": "line-4", "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert (reply.headers["X-Request-ID"], reply.headers["X-Own"]) == ("line-4", "5")
    record = json.loads(log_lines.getvalue())
    assert record.pop("milliseconds") >= 0
    assert re.fullmatch(r"[\d-]+T[\d:.]+Z", record.pop("timestamp"))
    assert record == {
        "level": "info",
        "logger": "gateway.access",
        "pid": os.getpid(),
        "message": "GET /detect 200",
        "method": "GET",
        "route": "/detect",
        "status": 200,
        "request_id": "line-4",
        "trace_id": trace,
        "board_id": "板 17\n2026 INFO all is well",
    }


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-0-0-01", f"00-{'0' * 32}-{'0' * 16}-01", "ff-板"])
def test_a_broken_trace_context_is_left_out(traceparent: str, log_lines: io.StringIO) -> None:
    assert ask(well, traceparent=traceparent).status_code == 200
    assert "trace_id" not in json.loads(log_lines.getvalue())


def test_a_fault_has_its_traceback_in_the_log_and_not_in_the_answer(log_lines: io.StringIO) -> None:
    reply = ask(broken, **{"X-Request-ID": "line-5"})
    assert (reply.status_code, reply.headers["X-Request-ID"]) == (500, "line-5")
    assert reply.json()["request_id"] == "line-5"
    assert "of the gateway's own" not in reply.text
    fault, access = (json.loads(line) for line in log_lines.getvalue().splitlines())
    assert fault["exception"].startswith("Traceback")
    assert "of the gateway's own" in fault["exception"]
    assert (fault["request_id"], fault["level"], access["status"]) == ("line-5", "error", 500)


def test_lines_for_people_cannot_be_forged(console_lines: io.StringIO) -> None:
    assert ask(well).status_code == 200
    assert ask(broken).status_code == 500
    logging.getLogger("elsewhere").warning("a reason\n2026 INFO all is well\x1b[31m")
    lines = console_lines.getvalue().splitlines()
    assert not [line for line in lines if line.startswith("2026 INFO")]
    assert "\x1b" not in console_lines.getvalue()
    own = [line for line in lines if not line.startswith("    | ")]
    assert len(own) == 4  # two requests, a fault, a warning


def test_server_timing_tells_the_stages_of_the_answer(gateway_url: str) -> None:
    answer = httpx.post(
        f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, data={"annotated": "true"}, timeout=60
    )
    found = re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])
    stages = {stage: float(duration) for stage, duration in found}
    expected = {
        "body",
        "catalog",
        "decode",
        "prompts",
        "infer",
        "triton",
        "postprocess",
        "draw",
        "serialize",
        "request",
    }
    assert set(stages) == expected
    told = answer.json()["timings_ms"]
    assert {stage: stages[stage] for stage in ("decode", "infer", "postprocess")} == {
        stage: told[stage] for stage in ("decode", "infer", "postprocess")
    }
    assert stages["triton"] <= stages["infer"] <= stages["request"]
    assert told["total"] <= stages["request"]
