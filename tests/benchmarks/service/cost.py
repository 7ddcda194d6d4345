"""What the gateway costs: the same requests through it and to Triton directly, one at a time.

They take turns of a few requests, whose order alternates, so that what else the machine does strikes both alike. The
cost at a percentile is the gateway's percentile less Triton's: of all requests, and of each round's by itself.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tqdm import tqdm

from tests.benchmarks.service.agreement import agreement
from tests.benchmarks.service.direct import DirectTriton
from tests.benchmarks.service.load import timed
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import Timed, percentiles
from tests.benchmarks.service.server_timing import own_ms
from tests.benchmarks.service.servers import DIRECT, GATEWAY, HttpServer, Servers
from tests.benchmarks.service.spread import spread

REQUESTS = 200  # of each in a round: five rounds are a thousand, of which ten are beyond the p99
TURN = 10  # requests


async def cost(up: Servers, questions: Mapping[str, Question], rounds: int, requests: int = REQUESTS) -> dict[str, Any]:
    """By picture."""
    return {picture: await _of(up, question, rounds, requests, picture) for picture, question in questions.items()}


async def _of(up: Servers, question: Question, rounds: int, requests: int, label: str) -> dict[str, Any]:
    said = await agreement(up, question)  # and both are warm
    replies: dict[str, list[list[Timed]]] = {DIRECT: [], GATEWAY: []}  # by round
    turns: list[tuple[str, DirectTriton | HttpServer]] = [(DIRECT, up.direct), (GATEWAY, up.gateway)]
    for _ in tqdm(range(rounds), desc=f"cost, {label}", unit="round", file=sys.stderr, disable=None):
        for each in replies.values():
            each.append([])
        for begun in range(0, requests, TURN):
            for name, server in turns:
                for _ in range(min(TURN, requests - begun)):
                    replies[name][-1].append(await timed(partial(server.ask, question), time.perf_counter()))
            turns.reverse()
    by_round = {name: [_answered_ms(each) for each in own] for name, own in replies.items()}
    whole = {name: [ms for each in own for ms in each] for name, own in by_round.items()}
    asked = [reply for own in replies.values() for each in own for reply in each]
    return {
        "requests": rounds * requests,  # of each
        "rounds": rounds,
        "latency_ms": {name: percentiles(each, 25, 50, 75, 95, 99) for name, each in whole.items()},
        "gateway_own_ms": percentiles(own_ms([each.reply for turn in replies[GATEWAY] for each in turn]), 50, 95, 99),
        "over_direct_ms": _difference(whole[GATEWAY], whole[DIRECT]),
        "over_direct_by_round_ms": {
            name: spread([each[name] for each in map(_difference, by_round[GATEWAY], by_round[DIRECT])])
            for name in ("p50", "p99")
        },
        "failed": sum(each.reply.status != 200 for each in asked),
        **said,
    }


def _answered_ms(replies: Sequence[Timed]) -> list[float]:
    return [each.milliseconds for each in replies if each.reply.status == 200]


def _difference(upper: Sequence[float], lower: Sequence[float]) -> dict[str, float]:
    above, below = percentiles(upper, 50, 99), percentiles(lower, 50, 99)
    return {name: round(above[name] - below[name], 2) for name in above}
