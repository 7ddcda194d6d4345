"""A load of one picture on a gateway, at a steady rate or by so many clients, and what became of it.

At a steady rate a request begins when its time has come, whatever the others do, and its latency counts from then: a
gateway that falls behind is not spared. Nothing is asked twice. The load costs processor time where it runs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np

from gateway.answer import Timings

PERCENTILES = (50, 95, 99)


class Bench:
    """Sends one form again and again for `seconds`, and counts; `options` are those of `access_options`."""

    def __init__(self, url: str, form: dict[str, Any], timeout_s: float, options: dict[str, Any]) -> None:
        self._url = url
        self._form = form
        self._timeout_s = timeout_s
        self._options = options
        self._latencies_ms: list[float] = []
        self._timings_ms: list[Timings] = []
        self._outcomes: Counter[str] = Counter()

    async def steady(self, seconds: float, rate_per_s: float, done: Callable[[], object]) -> dict[str, Any]:
        """So many requests a second, evenly spaced.

        Raises:
            ValueError: not one is due in that time.
        """
        number_of_requests = round(seconds * rate_per_s)
        if number_of_requests == 0:
            raise ValueError(
                f"{rate_per_s:g} requests a second are none in {seconds:g} s; measure longer, or ask faster"
            )
        async with self._client() as client, asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(number_of_requests):
                due = began + number / rate_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._ask(client, due, done))
        return self._report(time.perf_counter() - began) | {"rate_per_s": rate_per_s}

    async def clients(self, seconds: float, concurrency: int, done: Callable[[], object]) -> dict[str, Any]:
        """So many clients, each asking again when it has its answer."""
        began = time.perf_counter()

        async def one(client: httpx.AsyncClient) -> None:
            while (now := time.perf_counter()) < began + seconds:
                await self._ask(client, now, done)

        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(one(client))
        return self._report(time.perf_counter() - began) | {"concurrency": concurrency}

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=self._url, timeout=self._timeout_s, limits=limits, **self._options)

    async def _ask(self, client: httpx.AsyncClient, due: float, done: Callable[[], object]) -> None:
        try:
            reply = await client.post("/detect", **self._form)
            outcome = str(reply.status_code)
        except httpx.TransportError as error:
            outcome = type(error).__name__
        else:
            if reply.status_code == 200:
                latency_ms = (time.perf_counter() - due) * 1e3
                try:
                    self._timings_ms.append(Timings.model_validate(reply.json()["timings_ms"]))
                    self._latencies_ms.append(latency_ms)
                except (ValueError, TypeError, KeyError):
                    outcome = "no answer of a gateway"
        self._outcomes[outcome] += 1
        done()

    def _report(self, seconds: float) -> dict[str, Any]:
        ok = self._outcomes["200"]
        own = [timings.total - timings.infer for timings in self._timings_ms]
        return {
            "requests": self._outcomes.total(),
            "ok": ok,
            "errors": {outcome: count for outcome, count in self._outcomes.items() if outcome != "200"},
            "seconds": round(seconds, 3),
            "ok_per_s": round(ok / seconds, 3),
            "latency_ms": percentiles(self._latencies_ms),  # as the client sees it
            "infer_ms": percentiles([timings.infer for timings in self._timings_ms]),
            "gateway_ms": percentiles(own),  # decoding, merging and the rest: all but inference
        }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """The usual ones and the largest; None of no values."""
    if not values:
        return None
    found = {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES} | {"max": max(values)}
    return {name: round(value, 2) for name, value in found.items()}
