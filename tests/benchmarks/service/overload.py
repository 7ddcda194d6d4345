"""Servers at rising rates, far beyond what they can answer: where the knee is and what comes after.

Requests are evenly spaced, whatever becomes of them; rates are shares of a server's own capacity, which clients who
wait find out first. The knee is the highest rate at which nothing is refused or fails and p95 is at most twice that of
the lowest rate. Answers a second do not show it: what is queued is answered too, only late, up to the capacity itself.

The load takes the processors that the servers do not have, where there are any: to ask and to be refused costs some
milliseconds as well, which would be missing where the answers are made. The gateway is asked about a board; its peers
need many seconds for that and are asked about one tile, as it is too, by fewer rates.

A machine with other work gives the servers now more, now less of itself. So beside the answers a second stand those a
second of the servers' own processor time: what an overrun server wastes lowers these, and what others do does not.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

from tests.benchmarks.service.direct import DirectTriton
from tests.benchmarks.service.load import clients, steady
from tests.benchmarks.service.process import processor_s
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import answered, outcome
from tests.benchmarks.service.servers import DIRECT, GATEWAY, HttpServer, Servers

SHARES = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0)  # of the capacity
FEWER_SHARES = (0.5, 0.7, 0.9, 1.2, 2.0)  # two minutes at 20 s each, with what waits at the end
CAPACITY_CLIENTS, CAPACITY_S = 8, 15.0
KNEE_P95 = 2.0  # times that of the lowest rate
CLOCK, PROCESSOR = "answered_per_s", "answered_per_processor_s"

Row = Mapping[str, Any]


async def at_rising_rates(up: Servers, tile: Question, board: Question, seconds: float) -> dict[str, dict[str, Any]]:
    """By picture and server, which are up."""
    asked: dict[str, HttpServer | DirectTriton] = {**up.peers, DIRECT: up.direct, GATEWAY: up.gateway}
    with aside():
        return {
            "one tile": {name: await overload(each, tile, seconds, FEWER_SHARES, name) for name, each in asked.items()},
            "board of nine tiles": {GATEWAY: await overload(up.gateway, board, seconds, SHARES, "board")},
        }


@contextmanager
def aside() -> Iterator[None]:
    """On the processors that this process and so the servers that it started do not have, where there are any."""
    own = os.sched_getaffinity(0)
    with suppress(OSError):  # none, or none that this process may have
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


async def overload(
    server: HttpServer | DirectTriton, question: Question, seconds: float, shares: Sequence[float], label: str
) -> dict[str, Any]:
    """The capacity, then each rate for so long, the lowest first."""
    answered(await server.ask(question))
    replies, took_s = await clients(lambda: server.ask(question), min(CAPACITY_S, seconds), CAPACITY_CLIENTS)
    capacity = outcome(replies, took_s)[CLOCK]
    rows = []
    for share in tqdm(shares, desc=f"rates, {label}", unit="rate", file=sys.stderr, disable=None):
        rate, before = share * capacity, processor_s(server.processes)
        timed, took_s = await steady(lambda: server.ask(question), seconds, rate)
        row = {"share_of_capacity": share, "rate_per_s": round(rate, 3), **outcome(timed, took_s)}
        row[PROCESSOR] = round(row["answered"] / (processor_s(server.processes) - before), 3)
        rows.append(row)
    knee = knee_per_s(rows)
    return {
        "capacity_per_s": capacity,
        "knee_per_s": knee,
        "goodput_past_the_knee": goodput_past(knee, rows),
        "rates": rows,
    }


def knee_per_s(rows: Sequence[Row]) -> float:
    """The highest rate that is answered in full and about as fast as the lowest; 0 where none is."""
    kept = [row for row in rows if row["refused"] == row["failed"] == 0]
    soon = [row for row in kept if row["latency_ms"]["p95"] <= KNEE_P95 * kept[0]["latency_ms"]["p95"]]
    return max((float(row["rate_per_s"]) for row in soon), default=0.0)


def goodput_past(knee: float, rows: Sequence[Row]) -> dict[str, float | None]:
    """The least beyond the knee of the peak, or on the clock of the rate where that is less; None where no rate is."""
    past = [row for row in rows if row["rate_per_s"] > knee]
    if not past:
        return {CLOCK: None, PROCESSOR: None}
    peak, best = (max(row[name] for row in rows) for name in (CLOCK, PROCESSOR))
    return {
        CLOCK: round(min(row[CLOCK] / min(peak, row["rate_per_s"]) for row in past), 3),
        PROCESSOR: round(min(row[PROCESSOR] for row in past) / best, 3),
    }
