"""The whole service measured: against what would stand there instead, at rising rates, as it grows, and by its steps.

    taskset -c 0 python -m tests.benchmarks.service [PART ...] [--out FOLDER]

Parts are compare, cost, overload, growth, profile and yolo; no part named: all of them. Each writes service_PART.json
to docs/benchmarks, some a picture. One processor for all, as above, gives every server one thread and makes them
comparable. LitServe is left out where its environment is missing, YOLO where its graph is (yolo_graph.py); the flame
graph needs py-spy and a user who may look into processes. Progress goes to stderr, missed goals too; exit code 1 if a
request failed or an answer differed, which a missed goal is not.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gateway.heap import keep_large_blocks
from tests.benchmarks.origin import origin
from tests.benchmarks.service.compare import compare
from tests.benchmarks.service.cost import cost
from tests.benchmarks.service.goals import failures, goals_of
from tests.benchmarks.service.growth import growth
from tests.benchmarks.service.overload import at_rising_rates
from tests.benchmarks.service.plots import plot_growth, plot_memory, plot_overload
from tests.benchmarks.service.profile import flame_graph, stage_breakdown
from tests.benchmarks.service.question import pictures
from tests.benchmarks.service.servers import COMMANDS, LIT, LITSERVE, MAKE_LITSERVE, servers
from tests.benchmarks.service.yolo import GRAPH, compare_with_yolo
from tests.conftest import REPOSITORY, embedded_triton

PARTS = ("compare", "cost", "overload", "growth", "profile", "yolo")
WITH_PEERS = ("compare", "overload")
CLIENTS = {"one tile": 8, "board of nine tiles": 2}  # twelve prompts about nine tiles take PyTorch many seconds


async def measure(part: str, folder: Path, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One part."""
    questions = pictures()
    tile, board = questions.values()
    rounds, seconds = arguments.rounds, arguments.seconds
    if part == "yolo":
        return await compare_with_yolo(folder / "repository", board, 2 * rounds)
    peers = tuple(name for name in COMMANDS if name != LIT or LITSERVE.is_file()) if part in WITH_PEERS else ()
    patience = {} if part == "overload" else {"DEADLINE_S": "120"}  # nobody is refused for being slow
    with embedded_triton(REPOSITORY) as triton:
        if part == "growth":
            report = await growth(triton, folder, rounds)
            plot_growth(report, out / "service_growth.png")
            plot_memory(report, out / "service_growth_memory.png")
            return report
        async with servers(triton, folder, peers, **patience) as up:
            if part == "compare":
                return dict(await compare(up, questions, rounds, CLIENTS))
            if part == "cost":
                return await cost(up, questions, rounds)
            if part == "overload":
                rates = await at_rising_rates(up, tile, board, seconds)
                plot_overload(rates, out / "service_overload.png")
                return dict(rates)
            return {
                **{name: await stage_breakdown(up.gateway, each, int(seconds)) for name, each in questions.items()},
                "samples": await flame_graph(up.gateway, tile, int(seconds), out / "service_flame.svg"),
            }


def left_out(parts: Collection[str]) -> set[str]:
    """Says what cannot be measured here and how that could be mended; the parts that fall away."""
    if not LITSERVE.is_file() and not set(WITH_PEERS).isdisjoint(parts):
        say(f"{LIT} is left out: {LITSERVE} is missing, these make it:\n{MAKE_LITSERVE}")
    if "yolo" in parts and not GRAPH.is_file():
        say(f"yolo is left out: {GRAPH} is missing, tests/benchmarks/service/yolo_graph.py says how it is made")
        return {"yolo"}
    return set()


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=5, help="of cost 200 requests of each")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate, and of each load that is profiled")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep_large_blocks()  # as the gateway does: else asking Triton without it would be the slower way
    missing, faults = left_out(parts), []
    for part in (part for part in parts if part not in missing):
        report = origin()
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measure(part, Path(folder), arguments.out, arguments))
        report["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
        goals = goals_of(part, found)
        (arguments.out / f"service_{part}.json").write_text(
            json.dumps({**report, "goals": goals, **found}, indent=1) + "\n"
        )
        for goal in goals:
            if not goal["met"]:
                say(f"{part}: missed, {goal['goal']}: {goal['measured']}")
        faults += failures(found, part)
    for fault in faults:
        say(f"failed: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
