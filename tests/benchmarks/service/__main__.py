"""The whole service measured: against what would stand there instead, at rising rates, as it grows, and by its steps.

    taskset -c 0 python -m tests.benchmarks.service [PART ...] [--out FOLDER]

Parts are compare, cost, overload, growth, profile and yolo; no part named: all of them. Each writes service_PART.json
to docs/benchmarks, some a picture. One processor for all, as above, gives every server one thread and makes them
comparable. LitServe is left out where its environment is missing (tests/benchmarks/service/litserve_server.py), YOLO
where its graph is (yolo_graph.py); the flame graph needs py-spy and a user who may look into processes. Progress goes
to stderr.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.heap import keep_large_blocks
from tests.benchmarks.service.compare import compare
from tests.benchmarks.service.growth import growth
from tests.benchmarks.service.overload import overload
from tests.benchmarks.service.plots import plot_growth, plot_overload
from tests.benchmarks.service.profile import flame_graph, stage_breakdown
from tests.benchmarks.service.question import pictures
from tests.benchmarks.service.servers import COMMANDS, LIT, LITSERVE, servers
from tests.benchmarks.service.yolo import GRAPH, compare_with_yolo
from tests.conftest import REPOSITORY, embedded_triton

PARTS = ("compare", "cost", "overload", "growth", "profile", "yolo")
CLIENTS = {"one tile": 8, "board of nine tiles": 2}  # twelve prompts about nine tiles take PyTorch many seconds


async def measure(part: str, folder: Path, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One part."""
    questions = pictures()
    tile, board = questions.values()
    if part == "yolo":
        return await compare_with_yolo(folder / "repository", board, 2 * arguments.rounds)
    peers = tuple(name for name in COMMANDS if name != LIT or LITSERVE.is_file()) if part == "compare" else ()
    patience = {} if part == "overload" else {"DEADLINE_S": "120"}  # nobody is refused for being slow
    with embedded_triton(REPOSITORY) as triton:
        async with servers(triton, folder, peers, **patience) as up:
            if part in ("compare", "cost"):  # the latter without peers: gateway and Triton alone, in a minute
                return await compare(up, questions, arguments.rounds, CLIENTS)
            if part == "overload":
                report = await overload(up.gateway, board, arguments.seconds)
                plot_overload(report, out / "service_overload.png")
                return report
            if part == "growth":
                report = await growth(up, folder, arguments.rounds)
                plot_growth(report, out / "service_growth.png")
                return report
            seconds = int(arguments.seconds)
            return {
                **{name: await stage_breakdown(up.gateway, question, seconds) for name, question in questions.items()},
                "samples": await flame_graph(up.gateway, tile, seconds, out / "service_flame.svg"),
            }


def machine() -> dict[str, Any]:
    """Where and when, and how busy."""
    model = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": model,
        "processors": os.cpu_count(),
        "processors_used": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate, and of each load that is profiled")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep_large_blocks()  # as the gateway does: else asking Triton without it would be the slower way
    for part in arguments.parts or PARTS:
        if part == "yolo" and not GRAPH.is_file():
            print(f"yolo is left out: {GRAPH} is missing, yolo_graph.py makes it", file=sys.stderr)  # noqa: T201
            continue
        began = machine()
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measure(part, Path(folder), arguments.out, arguments))
        report = {"machine": {**began, "load_average_after": machine()["load_average"]}, **found}
        (arguments.out / f"service_{part}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
