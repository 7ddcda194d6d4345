"""Load on a gateway: gateway/client/bench.py, which here keeps what became of each request, the refused ones too."""

import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import numpy as np
from PIL import Image

from gateway.client.bench import Bench

PAUSE_S = 0.05  # of a client that was refused
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What became of one request: `status`, or the name of the error of its connection."""

    status: str
    seconds: float  # since it was due
    at: float  # when it came, of time.perf_counter
    says_when: bool  # whether it has Retry-After

    @property
    def due(self) -> float:
        """When it was, of time.perf_counter."""
        return self.at - self.seconds


class Load(Bench):
    """Asks about one tile again and again."""

    def __init__(self, url: str, **data: Any) -> None:  # noqa: ANN401 - form fields
        super().__init__(url, {"files": {"image": tile()}, "data": {"prompt": "短路", **data}}, PATIENCE_S, {})
        self.answers: list[Answer] = []
        self.asked = 0  # requests that have begun

    def at_rate(self, rate_per_s: float, seconds: float) -> None:
        """So many requests a second, whatever becomes of them; returns when all are answered."""
        asyncio.run(self.steady(seconds, rate_per_s, lambda: None))

    def by_clients(self, concurrency: int, requests: int) -> None:
        """So many requests by so many clients."""
        left = iter(range(requests))
        asyncio.run(self._clients(concurrency, lambda: next(left, None) is not None))

    def running(self, concurrency: int) -> AbstractContextManager[None]:
        """While the block runs so many clients ask again and again; at its end all are answered."""
        return _while_it_runs(lambda goes_on: self._clients(concurrency, goes_on))

    def running_at(self, rate_per_s: float) -> AbstractContextManager[None]:
        """While the block runs so many requests a second, whatever becomes of them; at its end all are answered."""
        return _while_it_runs(lambda goes_on: self._steadily(rate_per_s, goes_on))

    def statuses(self) -> Counter[str]:
        """How often each came."""
        return Counter(answer.status for answer in self.answers)

    def slowest_s(self) -> float:
        """Of all that came."""
        return max((answer.seconds for answer in self.answers), default=0.0)

    def seconds_of(self, *statuses: str) -> list[float]:
        """Of the answers with one of these statuses."""
        return [answer.seconds for answer in self.answers if answer.status in statuses]

    async def _clients(self, concurrency: int, goes_on: Callable[[], bool]) -> None:
        async def one(client: httpx.AsyncClient) -> None:
            while goes_on():
                await self._ask(client, time.perf_counter(), lambda: None)
                if self.answers[-1].status != "200":
                    await asyncio.sleep(PAUSE_S)

        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(one(client))

    async def _steadily(self, rate_per_s: float, goes_on: Callable[[], bool]) -> None:
        async with self._client() as client, asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in count():
                due = began + number / rate_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if not goes_on():
                    break
                group.create_task(self._ask(client, due, lambda: None))

    async def _ask(self, client: httpx.AsyncClient, due: float, done: Callable[[], object]) -> None:
        self.asked += 1
        says_when = False
        try:
            reply = await client.post("/detect", **self._form)
            status, says_when = str(reply.status_code), "Retry-After" in reply.headers
        except httpx.TransportError as error:
            status = type(error).__name__
        now = time.perf_counter()
        self.answers.append(Answer(status, now - due, now, says_when))
        done()


@contextmanager
def _while_it_runs(load: Callable[[Callable[[], bool]], Coroutine[None, None, None]]) -> Iterator[None]:
    """Runs a load in a thread; what it is given says whether it is to go on."""
    ending = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(load(lambda: not ending.is_set())))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile; NaN of nothing."""
    return float(np.percentile(seconds, 99)) if seconds else float("nan")


def tile() -> bytes:
    """A JPEG that is one tile."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).resize((240, 240)).save(encoded, "JPEG", quality=80)
    return encoded.getvalue()
