"""How latency and memory grow with what is asked: pixels, prompts, clients, boxes and the catalog.

The sizes of a curve take turns. The exponent is the slope of a line through the logarithms by least squares: 0 costs
nothing more, 1 as much more as there is more. It is found for the time on the clock and for the processor time of the
gateway and Triton, which other work on the machine changes less. R2 says little of a curve that is flat.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gateway.catalog.defect import MAX_DEFECTS
from tests.benchmarks.service.load import clients
from tests.benchmarks.service.process import memory_mb, processor_s
from tests.benchmarks.service.question import PROMPTS, Question, board, pictures
from tests.benchmarks.service.servers import HttpServer, Servers, gateway

SIDES = (256, 448, 640, 1024, 1408, 2048)  # pixels
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # of prompts, and of clients
GENERATIVE_COUNTS = (1, 2, 4, 8, 12)
CATALOGS = (12, 50, 150, 500, MAX_DEFECTS)
BOXES = (1, 5, 10, 25, 50, 100, 200)
CLIENTS_S = 4.0
ROOM = {"MAX_IN_FLIGHT": "64", "DEADLINE_S": "120"}  # the curves need more than a line would allow

Measure = Callable[[], Awaitable[tuple[float, float]]]  # milliseconds of the clock and of the processor


def fit(sizes: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """The exponent, and R2 of the line through the logarithms."""
    x, y = np.log(sizes), np.log(values)
    slope, offset = np.polyfit(x, y, 1)
    rest = ((y - slope * x - offset) ** 2).sum()
    return {"exponent": round(float(slope), 3), "r2": round(1 - float(rest / ((y - y.mean()) ** 2).sum()), 3)}


async def growth(up: Servers, folder: Path, rounds: int) -> dict[str, Any]:
    """Every curve."""
    async with AsyncExitStack() as stack:
        roomy = await stack.enter_async_context(gateway(up.triton, folder / "roomy", **ROOM))
        tile, whole = pictures().values()
        found: dict[str, Any] = {}
        found["pixels"] = await _curve(
            {side**2: _latency(roomy, Question(_of_side(side))) for side in SIDES}, rounds, "pixels", roomy
        )
        words = [f"{word} {number}" for number in range(-(-COUNTS[-1] // len(PROMPTS))) for word in PROMPTS]
        found["prompts"] = await _curve(
            {count: _latency(roomy, Question(whole.pixels, tuple(words[:count]))) for count in COUNTS},
            rounds,
            "prompts",
            roomy,
        )
        found["prompts, generative"] = await _curve(
            {
                count: _latency(roomy, Question(tile.pixels, PROMPTS[:count]).having(reading="generative"))
                for count in GENERATIVE_COUNTS
            },
            rounds,
            "prompts, generative",
            roomy,
        )
        found["boxes"] = await _curve(
            {count: _latency(roomy, question) for count, question in (await _with_boxes(roomy, whole)).items()},
            rounds,
            "boxes",
            roomy,
        )
        gateways = {}
        for size in CATALOGS:
            each = await stack.enter_async_context(gateway(up.triton, folder / f"catalog{size}", **ROOM))
            await _fill(each, size)
            gateways[size] = each
        found["catalog"] = await _curve(
            {size: _latency(each, tile) for size, each in gateways.items()}, rounds, "catalog", None
        )
        found["catalog"]["memory_mb"] = [memory_mb(each.processes[:1]) for each in gateways.values()]
        found["clients"] = await _clients(roomy, tile)
    return found


def _of_side(side: int) -> Any:  # noqa: ANN401
    """A square of the board, again and again."""
    pixels = board()
    repeats = -(-side // len(pixels))
    return np.ascontiguousarray(np.tile(pixels, (repeats, repeats, 1))[:side, :side])


def _latency(server: HttpServer, question: Question) -> Measure:
    async def measure() -> tuple[float, float]:
        before = processor_s(server.processes)
        ((timed,), _) = await clients(lambda: server.ask(question), 0, 1)
        if timed.reply.status != 200:
            raise RuntimeError(f"the gateway answered {timed.reply.status}: {timed.reply.content}")
        return timed.milliseconds, (processor_s(server.processes) - before) * 1e3

    return measure


async def _curve(measures: Mapping[int, Measure], rounds: int, label: str, server: HttpServer | None) -> dict[str, Any]:
    """Medians by size; memory is that of the gateway and of Triton after a size's requests."""
    measured: dict[int, list[tuple[float, float]]] = {size: [] for size in measures}
    memory: dict[int, float] = {}
    for count in tqdm(range(rounds + 1), desc=label, unit="round", file=sys.stderr, disable=None):
        for size, measure in measures.items():
            times = await measure()
            if count:  # the first is a warm-up
                measured[size].append(times)
            elif server is not None:
                memory[size] = memory_mb(server.processes)
    clock, processor = (
        [float(np.median([times[kind] for times in each])) for each in measured.values()] for kind in (0, 1)
    )
    return _report(list(measures), clock, processor, list(memory.values()))


def _report(
    sizes: Sequence[int], clock_ms: Sequence[float], processor_ms: Sequence[float], memory: Sequence[float]
) -> dict[str, Any]:
    return {
        "sizes": list(sizes),
        "latency_ms": [round(value, 2) for value in clock_ms],
        "processor_ms": [round(value, 2) for value in processor_ms],
        "memory_mb": list(memory),
        "latency": fit(sizes, clock_ms),
        "processor": fit(sizes, processor_ms),
    }


async def _with_boxes(server: HttpServer, question: Question) -> dict[int, Question]:
    """Questions whose answers have so many boxes: a threshold lies just below the score of the last one."""
    most = (await server.ask(question.having(score_threshold=0, max_detections=BOXES[-1] + 1))).content
    scores = [each["score"] for each in most["detections"]]
    return {
        count: question.having(score_threshold=(scores[count - 1] + scores[count]) / 2, max_detections=BOXES[-1])
        for count in BOXES
    }


async def _fill(server: HttpServer, size: int) -> None:
    """Adds defects that are not enabled until the catalog has so many."""
    there = (await server.client.get("/defects")).json()
    for number in range(size - len(there["defects"])):
        defect = {"names": {"en": [f"flaw of kind {number}"]}, "enabled": False}
        (await server.client.put(f"/defects/flaw_{number}", json=defect)).raise_for_status()


async def _clients(server: HttpServer, question: Question) -> dict[str, Any]:
    """Of more and more clients: the median latency, and how many are answered a second."""
    clock, processor, memory, rates = [], [], [], []
    for number in tqdm(COUNTS, desc="clients", unit="size", file=sys.stderr, disable=None):
        before = processor_s(server.processes)
        replies, took_s = await clients(lambda: server.ask(question), CLIENTS_S, number)
        processor.append((processor_s(server.processes) - before) / len(replies) * 1e3)
        clock.append(float(np.median([each.milliseconds for each in replies])))
        rates.append(round(len(replies) / took_s, 2))
        memory.append(memory_mb(server.processes))
    return {**_report(COUNTS, clock, processor, memory), "answered_per_s": rates}
