"""Where a request's time goes in the gateway: its stages by Server-Timing, its processor's share, and a flame graph.

The flame graph is py-spy's, of the gateway under load; the table beside it has the share of samples in which a
function was on the stack while the process computed, for those of the gateway's own and of the libraries it calls.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.service.load import clients
from tests.benchmarks.service.process import processor_s
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.server_timing import breakdown
from tests.benchmarks.service.servers import HttpServer

CLIENTS = 4
RATE = 200  # samples a second
LEAST_SHARE = 0.05


async def stage_breakdown(server: HttpServer, question: Question, seconds: float) -> dict[str, Any]:
    """Alone and under load: medians by stage, and processor time of the gateway and of Triton by request."""
    found = {}
    for label, number in (("alone", 1), (f"{CLIENTS} clients", CLIENTS)):
        before = [processor_s((process,)) for process in server.processes]
        replies, _ = await clients(lambda: server.ask(question), seconds, number)
        spent = [processor_s((process,)) - start for process, start in zip(server.processes, before, strict=True)]
        found[label] = {
            "stages": breakdown([each.reply for each in replies]),
            "processor_ms": {
                name: round(each / len(replies) * 1e3, 2)
                for name, each in zip(("gateway", "Triton"), spent, strict=True)
            },
        }
    return found


async def flame_graph(server: HttpServer, question: Question, seconds: int, out: Path) -> dict[str, float]:
    """Writes the flame graph OUT.svg; returns the share of samples by function, those from LEAST_SHARE on."""
    stacks = out.with_suffix(".txt")
    load = asyncio.create_task(clients(lambda: server.ask(question), 2 * seconds + 2, CLIENTS))
    for kind, file in (("raw", stacks), ("flamegraph", out)):
        await _record(server.processes[0], kind, seconds, file)
    await load
    shares = shares_of(stacks.read_text().splitlines())
    stacks.unlink()
    return shares


async def _record(process: psutil.Process, kind: str, seconds: int, file: Path) -> None:
    command = (shutil.which("py-spy") or "py-spy", "record", "--pid", str(process.pid), "--duration", str(seconds))
    options = ("--rate", str(RATE), "--format", kind, "--output", str(file), "--nonblocking")
    recorder = await asyncio.create_subprocess_exec(*command, *options, stdout=asyncio.subprocess.DEVNULL)
    if code := await recorder.wait():
        raise RuntimeError(f"py-spy ended with code {code}; it needs root or CAP_SYS_PTRACE")


def shares_of(stacks: Sequence[str]) -> dict[str, float]:
    """Collapsed stacks, `frame;frame;... count`, to the share of samples in which a function stood on the stack."""
    counts: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, number = line.rpartition(" ")
        total += int(number)
        counts.update({frame: int(number) for frame in {each.rsplit(":", 1)[0] for each in stack.split(";")}})
    shares = {frame: count / total for frame, count in counts.most_common()}
    return {frame: round(share, 3) for frame, share in shares.items() if share >= LEAST_SHARE}
