"""Brings the whole service up on this machine: the embedded Triton and the gateway, ended together.

python -m gateway.up [--port 8080] [--http-port 8000] [--grpc-port 8001] [--metrics-port 8002]

--port is the gateway's, by default PCBD_PORT; the others are Triton's; 0 takes a free one.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from gateway.parent import stop_with_parent

READY_TIMEOUT_S = 630.0  # Triton's launcher gives up after 600 s and says why; who ends before is seen at once
STOP_TIMEOUT_S = 40.0  # Triton's launcher gives it 35 s to end what it is at, and some for its log
GATEWAY_OPTION = "--port"
TRITON_OPTIONS = ("--http-port", "--grpc-port", "--metrics-port")
REACHED_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104 - who listens there answers at 127.0.0.1
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # http_proxy is not for this machine's own


class ServiceEndedError(RuntimeError):
    """The service did not come up, or did not stay up."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_ports(ports: Mapping[str, int]) -> dict[str, int]:
    """The ports of 127.0.0.1 by the option that gives them; in place of 0 one that nobody listens on now.

    Raises:
        ServiceEndedError: somebody listens on one, or it cannot be listened on.
    """
    found = {}
    with ExitStack() as held:  # until all are known, so that no two are the same
        for option, port in ports.items():
            try:
                probe = held.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError) as error:
                raise ServiceEndedError(
                    f"{option} is {port}, and 127.0.0.1:{port} cannot be listened on: {error}; "
                    f"end what listens there, or give {option} another port, 0 for any free one"
                ) from error
            found[option] = int(probe.getsockname()[1])
    return found


@contextmanager
def service(
    model_repository: Path,
    port: int,
    settings: Mapping[str, str] | None = None,
    log: Path | None = None,
    triton_ports: tuple[int, int, int] = (0, 0, 0),
) -> Iterator[str]:
    """The service's base URL, ready.

    `settings` are further PCBD_* variables; both processes write to the file `log`, or where this one does.
    `triton_ports` are those for HTTP, gRPC and metrics; 0 takes a free one, as it does for `port`.

    Raises:
        ServiceEndedError: a setting keeps the gateway from answering at http://127.0.0.1, a port is taken, a process
            ended, or the service was not ready within READY_TIMEOUT_S.
    """
    _refuse_elsewhere({**os.environ, **(settings or {})})
    ports = open_ports({GATEWAY_OPTION: port, **dict(zip(TRITON_OPTIONS, triton_ports, strict=True))})
    port = ports.pop(GATEWAY_OPTION)
    triton = [sys.executable, "-m", "export.server", "--model-repository", str(model_repository)]
    triton += [f"{option}={number}" for option, number in ports.items()]
    environment = {
        **os.environ,
        "PCBD_TRITON_URL": f"127.0.0.1:{ports['--grpc-port']}",
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


def _refuse_elsewhere(environment: Mapping[str, str]) -> None:
    elsewhere = [
        f"{name}={value}"
        for name, value in environment.items()
        if value and (name.startswith("PCBD_TLS_") or (name == "PCBD_HOST" and value not in REACHED_HOSTS))
    ]
    if elsewhere:
        raise ServiceEndedError(
            f"{', '.join(elsewhere)}: this command asks the gateway at http://127.0.0.1; start the two by themselves: "
            "python -m export.server --model-repository model_repository, then python -m gateway"
        )


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
            with DIRECT.open(f"{url}/readyz", timeout=2):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ServiceEndedError(f"{url} was not ready within {READY_TIMEOUT_S:.0f} s: {error}") from error
        time.sleep(0.1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs until Ctrl-C or SIGTERM; 1 when the service does not come up, or a process of it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    parser.add_argument(GATEWAY_OPTION, type=int, default=os.environ.get("PCBD_PORT") or 8080)
    for option, default in zip(TRITON_OPTIONS, (8000, 8001, 8002), strict=True):
        parser.add_argument(option, type=int, default=default)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        triton_ports = (arguments.http_port, arguments.grpc_port, arguments.metrics_port)
        with service(arguments.model_repository, arguments.port, triton_ports=triton_ports) as url:
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
