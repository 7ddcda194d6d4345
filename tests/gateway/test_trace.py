"""What a request leaves behind: a line of log, and headers for whoever measures."""

import asyncio
import logging
import re

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.metrics import Metrics
from gateway.trace import LOG, Trace
from tests.conftest import BOARD


def test_a_line_of_log_names_the_board_and_cannot_be_forged() -> None:
    async def answer(request: Request) -> Response:
        request.state.labels |= {"board_id": "板 17\n2026 INFO all is well", "recipe": None}
        request.state.headers["Server-Timing"] = "infer;dur=5"
        return PlainTextResponse("ok")

    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    app = Trace(Starlette(routes=[Route("/detect", answer)]), Metrics())

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return await client.get("/detect", headers={"X-Request-ID": "line-4"})

    try:
        reply = asyncio.run(ask())
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(logging.NOTSET)
    assert (reply.headers["X-Request-ID"], reply.headers["Server-Timing"]) == ("line-4", "infer;dur=5")
    assert len(lines) == 1
    assert re.fullmatch(r"GET /detect 200 [\d.]+ ms line-4 board_id='板 17\\n2026 INFO all is well'", lines[0])


def test_server_timing_tells_the_stages_of_the_answer(gateway_url: str) -> None:
    answer = httpx.post(f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, timeout=60)
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]))
    assert {stage: float(duration) for stage, duration in stages.items()} == answer.json()["timings_ms"]
