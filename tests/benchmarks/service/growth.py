"""How latency and memory grow with what is asked: pixels, prompts, boxes, the catalog and clients.

The sizes of a curve take turns, rising in one round and falling in the next. The exponent is the slope of a line
through the logarithms by least squares: 0 costs nothing more, 1 as much more as there is more. It is found for the
medians of the time on the clock, of the processor time of gateway and Triton, which other work on the machine changes
less, and for memory. R2 says little of a curve that is flat. Memory does not come back at once, so it is read after the
first requests of each size, when sizes only rise; it is resident memory, that of the models among it.

A catalog holds 1,000 defects, of which 64 may be enabled, and a request asks for 64 at most. So three curves have the
catalog's size: twelve prompts, whatever else it holds; no prompt, which asks for all that are enabled, 64 where there
are so many; and every defect by its name, in as many requests as that takes, one after the other.

Against uptime is the soak's to tell: tests/chaos/soak.py.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm import tqdm

from export.server import TritonServer
from gateway.catalog.defect import MAX_DEFECTS, MAX_ENABLED
from tests.benchmarks.service.load import clients
from tests.benchmarks.service.process import memory_mb, processor_s
from tests.benchmarks.service.question import PROMPTS, Question, board, pictures
from tests.benchmarks.service.reply import answered
from tests.benchmarks.service.servers import HttpServer, gateway

SIDES = (256, 448, 640, 1024, 1408, 2048)  # pixels
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # of prompts, and of clients
GENERATIVE_COUNTS = (1, 2, 4, 8, 12)
CATALOGS = (12, 50, 150, 500, MAX_DEFECTS)
BOXES = (1, 5, 10, 25, 50, 100, 200)  # and none
CLIENTS_S = 2.0
ROOM = {"MAX_IN_FLIGHT": "64", "DEADLINE_S": "120"}  # the curves need more than a line would allow


class Point(NamedTuple):
    """One measurement of one size."""

    clock_ms: float
    processor_ms: float
    memory_mb: float


Measure = Callable[[], Awaitable[Point]]


def fit(sizes: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """The exponent, and R2 of the line through the logarithms; a size of 0, which has none, is left out."""
    x, y = np.log([pair for pair in zip(sizes, values, strict=True) if pair[0] > 0]).T
    slope, offset = np.polyfit(x, y, 1)
    rest, whole = ((y - slope * x - offset) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return {"exponent": round(float(slope), 3), "r2": round(1 - float(rest / whole), 3) if whole else 1.0}


async def growth(triton: TritonServer, folder: Path, rounds: int, smallest: int | None = None) -> dict[str, Any]:
    """Every curve, or of every curve so many of the smallest sizes."""
    counts, catalogs = COUNTS[:smallest], CATALOGS[:smallest]
    async with AsyncExitStack() as stack:
        roomy = await stack.enter_async_context(gateway(triton, folder / "roomy", **ROOM))
        tile, whole = pictures().values()
        words = [f"{word} {number}" for number in range(-(-COUNTS[-1] // len(PROMPTS))) for word in PROMPTS]
        boxes = await _with_boxes(roomy, whole, (0, *BOXES[:smallest]))
        rates: dict[int, list[float]] = {number: [] for number in counts}
        full = {size: await _catalog(stack, triton, folder / f"catalog{size}", size) for size in catalogs}
        curves: dict[str, dict[int, Measure]] = {
            "pixels": {side**2: _alone(roomy, Question(_of_side(side))) for side in SIDES[:smallest]},
            "prompts": {count: _alone(roomy, Question(whole.pixels, tuple(words[:count]))) for count in counts},
            "prompts, generative": {
                count: _alone(roomy, Question(tile.pixels, PROMPTS[:count]).having(reading="generative"))
                for count in GENERATIVE_COUNTS[:smallest]
            },
            "boxes": {count: _alone(roomy, question) for count, question in boxes.items()},
            "catalog": {size: _alone(each, tile, memory_of=each.processes[:1]) for size, each in full.items()},
            "catalog, enabled": {
                size: _alone(each, Question(tile.pixels, ()), memory_of=each.processes[:1])
                for size, each in full.items()
            },
            "catalog, all by name": {
                size: _alone(each, *_by_name(tile, size), memory_of=each.processes[:1]) for size, each in full.items()
            },
            "clients": {number: _together(roomy, tile, number, rates[number]) for number in counts},
        }
        found = {name: await _curve(measures, rounds, name) for name, measures in curves.items()}
        found["clients"]["answered_per_s"] = [round(float(np.median(each[1:])), 2) for each in rates.values()]
    return found


def _of_side(side: int) -> NDArray[np.uint8]:
    """A square of the board, again and again."""
    pixels = board()
    repeats = -(-side // len(pixels))
    return np.ascontiguousarray(np.tile(pixels, (repeats, repeats, 1))[:side, :side])


def _alone(server: HttpServer, *questions: Question, memory_of: Sequence[psutil.Process] = ()) -> Measure:
    """The questions one after the other; memory of those processes, else of all that work for the server."""

    async def measure() -> Point:
        before, clock_ms = processor_s(server.processes), 0.0
        for question in questions:
            ((timed,), _) = await clients(partial(server.ask, question), 0, 1)
            answered(timed.reply)
            clock_ms += timed.milliseconds
        processor_ms = (processor_s(server.processes) - before) * 1e3
        return Point(clock_ms, processor_ms, memory_mb(memory_of or server.processes))

    return measure


def _together(server: HttpServer, question: Question, number: int, rates: list[float]) -> Measure:
    """So many clients: the median latency, the processor time of a request; the answers a second go to `rates`."""

    async def measure() -> Point:
        before = processor_s(server.processes)
        replies, took_s = await clients(lambda: server.ask(question), CLIENTS_S, number)
        for each in replies:
            answered(each.reply)
        processor_ms = (processor_s(server.processes) - before) / len(replies) * 1e3
        rates.append(len(replies) / took_s)
        return Point(
            float(np.median([each.milliseconds for each in replies])), processor_ms, memory_mb(server.processes)
        )

    return measure


async def _curve(measures: dict[int, Measure], rounds: int, label: str) -> dict[str, Any]:
    """By size."""
    points: dict[int, list[Point]] = {size: [] for size in measures}
    for count in tqdm(range(rounds + 1), desc=label, unit="round", file=sys.stderr, disable=None):
        for size in reversed(measures) if count % 2 else measures:
            points[size].append(await measures[size]())
    sizes = list(measures)
    memory = [each[0].memory_mb for each in points.values()]
    timed = [each[1:] for each in points.values()]  # the first round is a warm-up
    clock = _spreads([[point.clock_ms for point in each] for each in timed])
    processor = _spreads([[point.processor_ms for point in each] for each in timed])
    return {
        "sizes": sizes,
        "latency_ms": clock,
        "processor_ms": processor,
        "memory_mb": memory,
        "latency": fit(sizes, clock["median"]),
        "processor": fit(sizes, processor["median"]),
        "memory": fit(sizes, memory),
    }


def _spreads(values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Of each size's rounds."""
    kinds = {"median": 50, "least": 0, "most": 100}  # percentiles
    return {name: [round(float(np.percentile(each, kind)), 2) for each in values] for name, kind in kinds.items()}


async def _with_boxes(server: HttpServer, question: Question, counts: Sequence[int]) -> dict[int, Question]:
    """Questions whose answers have so many boxes: a threshold lies just below the score of the last one."""
    most = answered(await server.ask(question.having(score_threshold=0, max_detections=BOXES[-1] + 1)))
    scores = [1.0, *(each["score"] for each in most["detections"])]
    return {
        count: question.having(score_threshold=(scores[count] + scores[count + 1]) / 2, max_detections=BOXES[-1])
        for count in counts
    }


async def _catalog(stack: AsyncExitStack, triton: TritonServer, folder: Path, size: int) -> HttpServer:
    """A gateway whose catalog has so many defects, enabled as far as may be."""
    server = await stack.enter_async_context(gateway(triton, folder, **ROOM))
    for number, name in list(enumerate(_names(size)))[len(PROMPTS) :]:
        defect = {"names": {"en": [name]}, "enabled": number < MAX_ENABLED}
        (await server.client.put(f"/defects/flaw_{number}", json=defect)).raise_for_status()
    return server


def _names(size: int) -> list[str]:
    """Of the defects of a catalog of that size; a new one has the twelve."""
    return [*PROMPTS, *(f"flaw of kind {number}" for number in range(len(PROMPTS), size))]


def _by_name(question: Question, size: int) -> list[Question]:
    """Every defect of a catalog of that size."""
    names = _names(size)
    starts = range(0, size, MAX_ENABLED)
    return [Question(question.pixels, tuple(names[start : start + MAX_ENABLED])) for start in starts]
