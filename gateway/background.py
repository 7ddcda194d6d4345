"""The end of a task that runs beside the requests for as long as the process does."""

import asyncio
import contextlib
from typing import Any


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels it and waits until it is over; what it failed with before that is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
