"""The servers in turns: how long a request takes alone, and how many a second several clients get answered.

A round is one turn of every server with each load; only the server whose turn it is works. A ratio is made within a
round, so that what else the machine does strikes both its sides. What the gateway costs is told by cost.py.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import NotRequired

import numpy as np
from tqdm import tqdm
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from tests.benchmarks.service.agreement import Agreement, agreement
from tests.benchmarks.service.direct import DirectTriton
from tests.benchmarks.service.load import clients
from tests.benchmarks.service.process import memory_mb, processor_s
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import Ask, Timed, percentiles
from tests.benchmarks.service.server_timing import own_ms
from tests.benchmarks.service.servers import DIRECT, GATEWAY, GENERATIVE, HttpServer, Servers
from tests.benchmarks.service.spread import Spread, spread, times

TURN_S = 2.0  # a turn has at least one request of each client


class Figures(TypedDict):
    """Of one server."""

    latency_ms: dict[str, float]
    requests_alone: int
    processor_ms: float  # of a request
    answered_per_s: Spread
    memory_mb: float
    failed: int
    gateway_own_ms: NotRequired[dict[str, float]]  # by Server-Timing, of requests alone


class Ratio(TypedDict):
    """How many times as good."""

    latency: Spread
    throughput: Spread
    processor: Spread


class Comparison(TypedDict):
    """About one picture; `clients` at once made the throughput."""

    clients: int
    agreement: NotRequired[Agreement]  # not in reports from before it was asked for
    servers: dict[str, Figures]
    ratios: dict[str, Ratio]


class Contestant:
    """One server with one question, and what came of its turns."""

    def __init__(self, server: HttpServer | DirectTriton, question: Question) -> None:
        self.server, self.question = server, question
        self.alone_ms: list[list[float]] = []  # by round
        self.processor_ms: list[float] = []  # of one request alone, by round
        self.own_ms: list[float] = []  # of the gateway
        self.per_s: list[float] = []  # by round
        self.failed = 0

    @property
    def ask(self) -> Ask:
        """Asks it."""
        return lambda: self.server.ask(self.question)

    async def alone(self, seconds: float) -> None:
        """One request after the other."""
        before = processor_s(self.server.processes)
        replies, _ = await clients(self.ask, seconds, 1)
        self.processor_ms.append((processor_s(self.server.processes) - before) / len(replies) * 1e3)
        answers = self._answers(replies)
        self.alone_ms.append([each.milliseconds for each in answers])
        self.own_ms += own_ms([each.reply for each in answers])

    async def together(self, seconds: float, number: int) -> None:
        """So many clients."""
        replies, took_s = await clients(self.ask, seconds, number)
        self.per_s.append(len(self._answers(replies)) / took_s)

    def _answers(self, replies: Sequence[Timed]) -> list[Timed]:
        """Those that are; the others are counted.

        Raises:
            RuntimeError: none is, so that the turn has nothing to tell.
        """
        answers = [each for each in replies if each.reply.status == 200]
        self.failed += len(replies) - len(answers)
        if not answers:
            raise RuntimeError(f"all of {len(replies)} requests failed, the last by {replies[-1].reply}")
        return answers

    def latencies(self) -> list[float]:
        """By round, milliseconds."""
        return [float(np.median(each)) for each in self.alone_ms]

    def figures(self) -> Figures:
        """For the report."""
        figures: Figures = {
            "latency_ms": percentiles([each for turn in self.alone_ms for each in turn], 25, 50, 75, 95, 99),
            "requests_alone": sum(map(len, self.alone_ms)),
            "processor_ms": round(float(np.median(self.processor_ms)), 2),
            "answered_per_s": spread(self.per_s),
            "memory_mb": memory_mb(self.server.processes),
            "failed": self.failed,
        }
        if self.own_ms:
            figures["gateway_own_ms"] = percentiles(self.own_ms, 50, 95, 99)
        return figures


def contestants(up: Servers, question: Question) -> dict[str, Contestant]:
    """Everybody, by name, asked the same."""
    return {
        **{name: Contestant(peer, question) for name, peer in up.peers.items()},
        DIRECT: Contestant(up.direct, question),
        GATEWAY: Contestant(up.gateway, question),
        GENERATIVE: Contestant(up.gateway, question.having(reading="generative")),
    }


async def compare(
    up: Servers, questions: Mapping[str, Question], rounds: int, number: Mapping[str, int], turn_s: float = TURN_S
) -> dict[str, Comparison]:
    """By picture; `number` of clients at once for each picture."""
    everybody = {name: contestants(up, question) for name, question in questions.items()}
    for each in (each for those in everybody.values() for each in those.values()):
        await each.ask()
    said = {name: await agreement(up, question) for name, question in questions.items()}
    for count in tqdm(range(rounds), desc="comparison", unit="round", file=sys.stderr, disable=None):
        for picture, those in everybody.items():
            turns = list(those.values())
            for each in reversed(turns) if count % 2 else turns:
                await each.alone(turn_s)
            for each in turns:
                await each.together(turn_s, number[picture])
    return {
        picture: {
            "clients": number[picture],
            "agreement": said[picture],
            "servers": {name: each.figures() for name, each in those.items()},
            "ratios": _ratios(those),
        }
        for picture, those in everybody.items()
    }


def _ratios(those: Mapping[str, Contestant]) -> dict[str, Ratio]:
    """How many times as fast the gateway is as each other, in latency, in throughput and in processor time."""
    found: dict[str, Ratio] = {}
    for ours in (GATEWAY, GENERATIVE):
        for name, other in those.items():
            if name in (GATEWAY, GENERATIVE, DIRECT):
                continue
            mine = those[ours]
            found[f"{ours} : {name}"] = {
                "latency": times(other.latencies(), mine.latencies()),
                "throughput": times(mine.per_s, other.per_s),
                "processor": times(other.processor_ms, mine.processor_ms),
            }
    return found
