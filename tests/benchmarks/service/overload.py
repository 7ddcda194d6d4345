"""A gateway with its defaults at rising rates, far beyond what it can answer: where the knee is and what comes after.

Requests are evenly spaced, whatever becomes of them. The board has nine tiles, so that answering costs far more than
asking: the load shares a processor with what it measures.

A machine with other work gives the servers now more, now less of itself. So beside the answers a second stand those a
second of the servers' own processor time: what an overrun server wastes lowers these, and what others do does not.
"""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from tests.benchmarks.service.load import clients, steady
from tests.benchmarks.service.process import processor_s
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import outcome
from tests.benchmarks.service.servers import HttpServer

SHARES = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0)  # of the capacity
CAPACITY_CLIENTS, CAPACITY_S = 8, 15.0
KEPT_UP = 0.95  # of the rate is answered: below the knee


async def overload(
    server: HttpServer, question: Question, seconds: float, shares: Sequence[float] = SHARES
) -> dict[str, Any]:
    """The capacity by clients who wait, then each rate for so long."""
    replies, took_s = await clients(lambda: server.ask(question), min(CAPACITY_S, seconds), CAPACITY_CLIENTS)
    capacity = outcome(replies, took_s)["answered_per_s"]
    rows = []
    for share in tqdm(shares, desc="rates", unit="rate", file=sys.stderr, disable=None):
        rate, before = share * capacity, processor_s(server.processes)
        timed, took_s = await steady(lambda: server.ask(question), seconds, rate)
        row = {"share_of_capacity": share, "rate_per_s": round(rate, 2), **outcome(timed, took_s)}
        row["answered_per_processor_s"] = round(row["answered"] / (processor_s(server.processes) - before), 3)
        rows.append(row)
    kept = [row["rate_per_s"] for row in rows if row["answered_per_s"] >= KEPT_UP * row["rate_per_s"]]
    return {
        "capacity_per_s": capacity,
        "knee_per_s": max(kept, default=0.0),
        "goodput_beyond_of_peak": {
            name: round(
                min(row[name] for row in rows if row["share_of_capacity"] > 1) / max(row[name] for row in rows), 3
            )
            for name in ("answered_per_s", "answered_per_processor_s")
        },
        "rates": rows,
    }
