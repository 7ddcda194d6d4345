"""A fault of our own: what the client is told, and what it is not."""

import asyncio

import httpx

from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.access.conftest import NOWHERE

CAUSE = "what went wrong within"


def test_no_trace_of_a_fault_leaves_the_gateway() -> None:
    app = create_app(Settings(triton_url=NOWHERE))

    @app.get("/fails")
    async def fail() -> None:
        raise RuntimeError(CAUSE)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get("/fails")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal error")
    assert answer.json()["request_id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for word in (CAUSE, "RuntimeError", "Traceback", ".py"):
        assert word not in answer.text
