"""Whether the client is still there: work that nobody waits for any more is dropped."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from gateway.errors import ClientGoneError

Result = TypeVar("Result")


async def while_present(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is cancelled, Triton's part of it too, when the connection ends before. The body is read.

    Raises:
        ClientGoneError: the connection ended; nobody reads this, but the log and the metrics name it.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise ClientGoneError("the client went away before its answer was ready")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
