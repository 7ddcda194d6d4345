"""Brings the whole service up on this machine: the embedded Triton and the gateway, ended together.

python -m gateway.up [--port 8080]
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from gateway.parent import stop_with_parent

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


class ServiceEndedError(RuntimeError):
    """The service did not come up, or did not stay up."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(
    model_repository: Path, port: int, settings: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[str]:
    """The service's base URL, ready; Triton listens on free ports.

    `settings` are further PCBD_* variables; both processes write to the file `log`, or where this one does.

    Raises:
        ServiceEndedError: a process ended, or the service was not ready within READY_TIMEOUT_S.
    """
    grpc_port = free_port()
    triton = [sys.executable, "-m", "export.server", "--model-repository", str(model_repository)]
    triton += [
        f"--{name}-port={number}" for name, number in zip(("http", "metrics"), (free_port(), free_port()), strict=True)
    ]
    triton += [f"--grpc-port={grpc_port}"]
    environment = {
        **os.environ,
        "PCBD_TRITON_URL": f"127.0.0.1:{grpc_port}",
        "PCBD_PORT": str(port),
        "PCBD_MODEL_REPOSITORY": str(model_repository),
        **(settings or {}),
    }
    with ExitStack() as stack:
        output = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(log.open("w"))
        gateway = [sys.executable, "-m", "gateway"]
        processes = {
            "Triton": stack.enter_context(_process(triton, environment, output)),
            "the gateway": stack.enter_context(_process(gateway, environment, output)),
        }
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_ready(url, processes)
        except ServiceEndedError as error:
            raise ServiceEndedError(f"{error}; see {log or 'its log above'}") from error
        yield url


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], output: IO[str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: Ctrl-C reaches only this launcher, which then stops its children in order.
    process = subprocess.Popen(  # noqa: S603
        command,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=stop_with_parent,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(url: str, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise ServiceEndedError(f"{name} ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310
                return
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > deadline:
                raise ServiceEndedError(f"{url} was not ready within {READY_TIMEOUT_S:.0f} s: {error}") from error
        time.sleep(0.1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs until Ctrl-C or SIGTERM; 1 when the service does not come up, or a process of it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with service(arguments.model_repository, arguments.port) as url:
            ending = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
            signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before anybody is told: a SIGCHLD is lost otherwise
            print(  # noqa: T201
                f"\nready; try:\n  curl -F image=@tests/data/board.png -F 'prompt=寻找短路' -F 'prompt=find spurs' "
                f"{url}/detect\nCtrl-C stops it.",
                flush=True,
            )
            if signal.sigwait(ending) == signal.SIGCHLD:
                raise ServiceEndedError("Triton or the gateway ended by itself; see the log above")
    except ServiceEndedError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:  # while it was still starting
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
