"""Work on pixels beside each other, within a budget that is the largest picture's."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.pictures.budget import PixelBudget

PIXELS = 1000
PATIENCE_S = 60


class Work:
    """Pieces of work whose pixels are noted as they begin, and which go on when `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began: list[int] = []
        self._at_work = threading.Semaphore(0)

    def of(self, pixels: int) -> Callable[[], int]:
        def work() -> int:
            self.began.append(pixels)
            self._at_work.release()
            assert self.go.wait(PATIENCE_S)
            return pixels

        return work

    async def begins(self, patience_s: float = PATIENCE_S) -> bool:
        """Whether one more of them begins."""
        return await asyncio.to_thread(self._at_work.acquire, timeout=patience_s)


async def turns() -> None:
    """All that can go on without a thread has gone on."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_no_more_is_worked_on_at_a_time_and_who_comes_first_is_first() -> None:
    budget, work = PixelBudget(PIXELS), Work()

    async def ask() -> list[int]:
        asked = []
        for pixels in (600, 300):
            asked.append(asyncio.create_task(budget.work(pixels, work.of(pixels))))
            assert await work.begins()
        for pixels in (1000, 50):  # the small one would fit beside the first two
            asked.append(asyncio.create_task(budget.work(pixels, work.of(pixels))))
            await turns()
        assert not await work.begins(patience_s=0.2)
        work.go.set()
        return [await each for each in asked]

    assert asyncio.run(ask()) == [600, 300, 1000, 50]
    assert work.began == [600, 300, 1000, 50]


def test_work_that_nobody_waits_for_keeps_its_share_until_it_is_over() -> None:
    budget, work = PixelBudget(PIXELS), Work()

    async def ask() -> int:
        left = asyncio.create_task(budget.work(PIXELS, work.of(PIXELS)))
        assert await work.begins()
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left
        following = asyncio.create_task(budget.work(1, lambda: len(work.began)))
        await turns()
        assert not following.done()
        work.go.set()
        return await following

    assert asyncio.run(ask()) == 1


def test_who_gives_up_waiting_leaves_the_budget_to_others() -> None:
    budget, work = PixelBudget(PIXELS), Work()

    async def ask() -> int:
        first = asyncio.create_task(budget.work(PIXELS, work.of(PIXELS)))
        assert await work.begins()
        waiting = [asyncio.create_task(budget.work(PIXELS, work.of(PIXELS))) for _ in range(2)]
        await turns()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        work.go.set()
        await first
        return await budget.work(PIXELS, lambda: len(work.began))

    assert asyncio.run(ask()) == 1


def test_work_that_fails_gives_its_share_back() -> None:
    budget = PixelBudget(PIXELS)

    async def ask() -> int:
        with pytest.raises(ZeroDivisionError):
            await budget.work(PIXELS, lambda: 1 // 0)
        return await budget.work(PIXELS, lambda: 5)

    assert asyncio.run(ask()) == 5
