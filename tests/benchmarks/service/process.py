"""A server as a process of its own: ready inside the `with` block, ended with everything that it started."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from gateway.parent import stop_with_parent
from tests.conftest import ROOT

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
# One thread, wherever a library asks the environment: the engines in Triton have theirs by the number of processors.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class NotReadyError(RuntimeError):
    """A server did not come up."""


@contextmanager
def running(command: Sequence[str], ready_url: str, log: Path, **environment: str) -> Iterator[psutil.Process]:
    """The process, as soon as `ready_url` is answered.

    Raises:
        NotReadyError: it ended, or took longer than READY_TIMEOUT_S.
    """
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=stop_with_parent,
        )
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(ready_url):
            if process.poll() is not None or time.monotonic() > deadline:
                state = "is not ready" if process.poll() is None else f"ended with code {process.returncode}"
                raise NotReadyError(f"{' '.join(command)} {state}; its log ends:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlive it, or itself
        process.wait()


def processor_s(processes: Sequence[psutil.Process]) -> float:
    """Processor time of the threads of these and all that they have started, by the scheduler's count: nanoseconds."""
    tasks = (task for each in _all(processes) for task in Path(f"/proc/{each.pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(processes: Sequence[psutil.Process]) -> float:
    """Resident memory of these and all that they have started; what they share counts once for each."""
    return round(sum(each.memory_info().rss for each in _all(processes)) / 2**20, 1)


def _all(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return True
    except OSError:
        return False
