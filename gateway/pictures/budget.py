"""Work on the pixels of pictures, in threads beside each other, but never on more at a time than the largest may have.

While it is decoded, or drawn into, a picture takes up to three times the memory that it has otherwise.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class PixelBudget:
    """Of one worker. Who comes first works first, however large what comes behind."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()

    async def work(self, pixels: int, work: Callable[[], Result]) -> Result:
        """What `work` gives, done in a thread with so many pixels, at most those of the budget; raises as it does."""
        async with self._turn:
            while pixels > self._free:
                self._freed.clear()
                await self._freed.wait()
            self._free -= pixels

        def over(done: asyncio.Task[Result]) -> None:
            self._free += pixels
            self._freed.set()
            _ = done.cancelled() or done.exception()  # nobody may wait for it any more

        working = asyncio.create_task(asyncio.to_thread(work))
        working.add_done_callback(over)
        return await asyncio.shield(working)  # the thread goes on, and its memory stays, where nobody waits any more
