"""Two kinds of load: so many clients who wait for their answers, and so many requests a second whatever is answered."""

import asyncio
import time

from tests.benchmarks.service.reply import Ask, Timed


async def clients(ask: Ask, seconds: float, number: int) -> tuple[list[Timed], float]:
    """Each asks again when it is answered, at least once and for so long; the replies, and the seconds it all took."""
    replies: list[Timed] = []
    began = time.perf_counter()

    async def one() -> None:
        while True:
            replies.append(await timed(ask, time.perf_counter()))
            if time.perf_counter() - began >= seconds:
                return

    await asyncio.gather(*(one() for _ in range(number)))
    return replies, time.perf_counter() - began


async def steady(ask: Ask, seconds: float, rate_per_s: float) -> tuple[list[Timed], float]:
    """Evenly spaced; latency counts from when a request was due, so that nobody gains by being slow to take it.

    The seconds that it took are at least an interval for each request: no more can be answered a second than are asked.
    """
    tasks = []
    requests = max(1, round(seconds * rate_per_s))
    began = time.perf_counter()
    for number in range(requests):
        due = began + number / rate_per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(timed(ask, due)))
    replies = await asyncio.gather(*tasks)
    return replies, max(requests / rate_per_s, time.perf_counter() - began)


async def timed(ask: Ask, due: float) -> Timed:
    """One reply."""
    reply = await ask()
    return Timed(reply, (time.perf_counter() - due) * 1e3)
