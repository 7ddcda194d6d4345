"""The figures of the benchmarks: what is counted, and what is made of it."""

import asyncio
import os
from typing import Any

import pytest

from tests.benchmarks.service.compare import Contestant
from tests.benchmarks.service.growth import fit
from tests.benchmarks.service.load import steady
from tests.benchmarks.service.overload import aside, goodput_past, knee_per_s
from tests.benchmarks.service.profile import shares_of
from tests.benchmarks.service.question import pictures
from tests.benchmarks.service.reply import Reply, Timed, outcome


def test_only_answers_are_counted_and_the_gateway_s_own_time_is_of_requests_alone() -> None:
    class Unsteady:
        processes = ()
        replies = iter([Reply(429), Reply(200, headers={"server-timing": "request;dur=9,triton;dur=7"})] * 2)

        async def ask(self, _: object) -> Reply:
            return next(self.replies)

    contestant = Contestant(Unsteady(), pictures()["one tile"])  # type: ignore[arg-type]
    asyncio.run(contestant.together(0, 2))
    assert contestant.per_s[0] > 0
    assert (contestant.failed, contestant.own_ms, contestant.alone_ms) == (1, [], [])
    with pytest.raises(RuntimeError, match="429"):
        asyncio.run(contestant.alone(0))
    asyncio.run(contestant.alone(0))
    assert (contestant.failed, contestant.own_ms, len(contestant.alone_ms[0])) == (2, [2.0], 1)


def test_a_refusal_without_advice_is_counted() -> None:
    found = outcome([Timed(Reply(429), 1.0), Timed(Reply(503, headers={"retry-after": "1"}), 1.0)], 1)
    assert (found["refused"], found["refused_without_retry_after"], found["failed"]) == (2, 1, 0)
    assert outcome([Timed(Reply(500), 1.0), Timed(Reply(0), 1.0)], 1)["failed"] == 2


def test_a_steady_load_does_not_wait_for_answers() -> None:
    async def measure() -> int:
        begun, together = 0, asyncio.Event()

        async def ask() -> Reply:
            nonlocal begun
            begun += 1
            if begun == 3:
                together.set()
            await together.wait()  # nobody is answered before the third has come
            return Reply(200)

        replies, _ = await steady(ask, 0.03, 100)
        return len(replies)

    assert asyncio.run(measure()) == 3


def test_a_steady_load_is_not_answered_faster_than_it_asks() -> None:
    async def ask() -> Reply:
        return Reply(200)

    replies, took_s = asyncio.run(steady(ask, 0.03, 100))
    assert len(replies) / took_s <= 100


def rates(*rows: tuple[float, float, float, int]) -> list[dict[str, Any]]:
    """Of rate, answers a second, p95 and refusals."""
    return [
        {
            "rate_per_s": rate,
            "answered_per_s": answers,
            "answered_per_processor_s": 2 * answers,
            "latency_ms": {"p95": p95},
            "refused": refused,
            "failed": 0,
        }
        for rate, answers, p95, refused in rows
    ]


def test_the_knee_is_below_the_capacity_at_which_requests_wait_for_each_other() -> None:
    rows = rates((1, 1, 250, 0), (3.6, 3.6, 270, 0), (4, 3.9, 501, 0), (4.5, 4.3, 1409, 0), (9, 4.5, 400, 40))
    assert knee_per_s(rows) == 3.6
    assert knee_per_s(rates((1, 1, 250, 1))) == 0


def test_goodput_past_the_knee_is_of_the_rate_or_the_peak() -> None:
    rows = rates((2, 2, 250, 0), (4, 3.8, 900, 0), (8, 5, 3000, 9), (16, 4.8, 3000, 90))
    assert goodput_past(2, rows) == {"answered_per_s": 0.95, "answered_per_processor_s": 0.76}
    assert goodput_past(16, rows)["answered_per_s"] is None


def test_a_power_law_has_its_exponent_whatever_it_begins_with() -> None:
    assert fit([1, 2, 4, 8], [3, 12, 48, 192]) == {"exponent": 2.0, "r2": 1.0}
    assert fit([0, 1, 2, 4, 8], [7, 3, 12, 48, 192]) == {"exponent": 2.0, "r2": 1.0}
    assert fit([1, 2], [5, 5]) == {"exponent": 0.0, "r2": 1.0}


def test_a_function_s_share_counts_each_sample_once() -> None:
    stacks = [
        "main (a.py:1);work (a.py:2);work (a.py:3) 3",
        "main (a.py:1);more (a.py:9) 1",
    ]
    assert shares_of(stacks) == {"main (a.py)": 1.0, "work (a.py)": 0.75, "more (a.py)": 0.25}


def test_the_load_leaves_the_servers_processor_where_there_is_another() -> None:
    before = os.sched_getaffinity(0)
    servers = {min(before)}
    os.sched_setaffinity(0, servers)
    try:
        with aside():
            beside = os.sched_getaffinity(0)
        assert os.sched_getaffinity(0) == servers
    finally:
        os.sched_setaffinity(0, before)
    assert not beside & servers or before == servers
