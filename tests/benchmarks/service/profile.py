"""Where a request's time goes: its stages by Server-Timing, the processor time of each thread, and a flame graph.

What a thread has computed is the scheduler's count, which other processes on the machine do not change much. The flame
graph is py-spy's, of the gateway under load: of the samples in which a thread held the interpreter's lock. One that
waits for its turn on the processor holds it too: on a busy machine calls that wake somebody else look dear. So the
shares are of samples, not of processor time.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sysconfig
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
TITLE = f"The gateway, {CLIENTS} clients"


async def stage_breakdown(server: HttpServer, question: Question, seconds: float) -> dict[str, Any]:
    """Alone and under load: medians by stage, and processor time of the gateway and of Triton by request."""
    found = {}
    for label, number in (("alone", 1), (f"{CLIENTS} clients", CLIENTS)):
        front, triton = server.processes
        threads, elsewhere = _threads_ms(front), processor_s((triton,))
        replies, _ = await clients(lambda: server.ask(question), seconds, number)
        spent = Counter(_threads_ms(front))
        spent.subtract(threads)
        found[label] = {
            "requests": len(replies),
            "failed": sum(each.reply.status != 200 for each in replies),
            "stages": breakdown([each.reply for each in replies]),
            "gateway_threads_ms": {name: round(each / len(replies), 3) for name, each in spent.most_common() if each},
            "gateway_processor_ms": round(spent.total() / len(replies), 2),
            "triton_processor_ms": round((processor_s((triton,)) - elsewhere) / len(replies) * 1e3, 2),
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


def _threads_ms(process: psutil.Process) -> dict[str, float]:
    """Processor time so far by kind of thread: Python's by their names, those of gRPC's own together."""
    dumped = subprocess.run(
        [_py_spy(), "dump", "--json", "--pid", str(process.pid)], capture_output=True, text=True, check=True
    )
    names = {thread["os_thread_id"]: thread["thread_name"] for thread in json.loads(dumped.stdout)}
    found: Counter[str] = Counter()
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        name = re.sub(r"_\d+$", "", names.get(int(task.name)) or "gRPC")
        found[name] += int((task / "schedstat").read_text().split()[0]) / 1e6
    return dict(found)


def _py_spy() -> str:
    own = sysconfig.get_path("scripts")  # of this environment, whether it is on PATH or not
    found = shutil.which("py-spy", path=os.pathsep.join([own, os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(f"py-spy is neither in {own} nor on PATH; install the extra `dev`")
    return found


async def _record(process: psutil.Process, kind: str, seconds: int, file: Path) -> None:
    command = (_py_spy(), "record", "--pid", str(process.pid), "--duration", str(seconds))
    command += ("--rate", str(RATE), "--gil", "--format", kind, "--output", str(file))
    recorder = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if code := await recorder.wait():
        raise RuntimeError(f"py-spy ended with code {code}; it needs root or CAP_SYS_PTRACE")
    file.write_text(file.read_text().replace(" ".join(command), TITLE))


def shares_of(stacks: Sequence[str]) -> dict[str, float]:
    """Collapsed stacks, `frame;frame;... count`, to the share of samples with a function on the stack."""
    counts: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, number = line.rpartition(" ")
        total += int(number)
        counts.update({frame: int(number) for frame in {re.sub(r":\d+\)$", ")", each) for each in stack.split(";")}})
    shares = {frame: count / total for frame, count in counts.most_common()}
    return {frame: round(share, 3) for frame, share in shares.items() if share >= LEAST_SHARE}
