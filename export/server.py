"""The embedded Triton: the tritonserver of the nvidia-pytriton wheel, started directly, on a CPU, without Docker.

    python -m export.server --model-repository model_repository

Waits until every model is ready, forwards Triton's log, ends Triton on SIGTERM and SIGINT, and exits with
its code. Models are replaced while they serve by python -m export.repository. Production runs the container
instead; this file knows nothing of what the models do.
"""

import argparse
import contextlib
import ctypes
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
DEAD_INSTANCE_STOP_TIMEOUT_S = 2.0  # for tiles at the others; Triton itself would wait for the dead one
INSTANCE_CHECK_S = 1.0
LOG_LINES_KEPT = 40
PR_SET_PDEATHSIG = 1
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - of the Python backend
UNASKED_TRACES_RATE = 2**31 - 1  # one in so many requests without a trace context
# All models from the start, and others when they are told of; without this Triton never looks at its models again.
EXPLICIT_CONTROL = ("--model-control-mode=explicit", "--load-model=*")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no http_proxy stands before this machine itself


class ServerError(RuntimeError):
    """The embedded Triton cannot be started, or died."""


class TritonServer:
    """One tritonserver process; a context manager that is ready inside the `with` block."""

    def __init__(
        self,
        model_repository: Path,
        *,
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        traces_url: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.model_repository = model_repository
        self.http_url = f"127.0.0.1:{http_port}"
        self.grpc_url = f"127.0.0.1:{grpc_port}"
        self.metrics_url = f"127.0.0.1:{metrics_port}"
        self._ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._options = [*_trace_options(traces_url), *options]
        self._last_lines: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._asked_to_stop = False

    @property
    def pid(self) -> int:
        """Process id of tritonserver.

        Raises:
            ServerError: it has not been started.
        """
        if self._process is None:
            raise ServerError("Triton has not been started; call start() first")
        return self._process.pid

    def start(self) -> None:
        """Starts Triton and returns at once.

        Raises:
            ServerError: the wheel, the Python stub, libpython or the repository is missing.
        """
        if not self.model_repository.is_dir():
            raise ServerError(
                f"model repository {self.model_repository} is not a folder; build one with python -m export.build"
            )
        wheel = _wheel_folder()
        self._folder = tempfile.TemporaryDirectory(prefix="tritonserver-")
        backends = Path(self._folder.name)
        _lay_out_python_backend(wheel, backends / "python")
        command = [
            str(wheel / "pytriton/tritonserver/bin/tritonserver"),
            f"--model-repository={self.model_repository.resolve()}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._region_prefix}",
            "--allow-gpu-metrics=false",
            "--disable-auto-complete-config",  # our configurations are complete; asking costs one more process a model
            "--strict-readiness=false",  # ready while a model is being replaced: its former version serves
            *(() if any("--model-control-mode" in option for option in self._options) else EXPLICIT_CONTROL),
            *(f"--{name}-address=127.0.0.1" for name in self._ports),
            *(f"--{name}-port={port}" for name, port in self._ports.items()),
            *self._options,
        ]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            env=_environment(wheel),
            cwd=Path(__file__).resolve().parent.parent,  # the models import export.runtime from here
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_die_with_parent,
            start_new_session=True,  # Ctrl-C reaches the launcher, which stops Triton in order
        )
        threading.Thread(target=self._forward_log, daemon=True).start()
        if self._asked_to_stop:  # before there was a process to tell
            self._process.send_signal(signal.SIGTERM)

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Waits until Triton says that it and all its models are ready.

        Raises:
            ServerError: it died, one of its instances did, for which it would wait for ever, or it took too long; its
                last log lines are in the message.
        """
        looked, dead = time.monotonic(), self._dead_instances()
        deadline = looked + timeout_s
        while not self.is_ready():
            if time.monotonic() - looked > INSTANCE_CHECK_S:
                looked, former, dead = time.monotonic(), dead, self._dead_instances()
                if dead & former:
                    self.stop(DEAD_INSTANCE_STOP_TIMEOUT_S)
                    raise ServerError("a model instance failed and died before Triton was ready:\n" + self._tail())
            code = self._process.poll() if self._process else None
            if code is not None:
                raise ServerError(f"Triton exited with code {code} before it was ready:\n" + self._tail())
            if time.monotonic() > deadline:
                raise ServerError(f"Triton was not ready within {timeout_s:.0f} s:\n" + self._tail())
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether Triton answers, which it does not before all its models are loaded."""
        try:
            with DIRECT.open(f"http://{self.http_url}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def wait(self) -> int:
        """Waits for Triton to end and returns its exit code; stops it and returns 1 when a model instance died."""
        if self._process is None:
            raise ServerError("Triton has not been started; call start() first")
        dead: set[str] = set()
        while True:
            try:
                code = self._process.wait(INSTANCE_CHECK_S)
            except subprocess.TimeoutExpired:
                former, dead = dead, self._dead_instances()
                if dead & former and not self._asked_to_stop:  # twice: one that Triton unloads is reaped at once
                    sys.stderr.write("error: a model instance died and Triton does not replace it; stopping Triton\n")
                    self.stop(DEAD_INSTANCE_STOP_TIMEOUT_S)
                    return 1
            else:
                self._clean_up()
                return code

    def _dead_instances(self) -> set[str]:
        """Python backend processes of Triton that ended without being asked to: zombies, since nobody reaps them."""
        dead = set()
        for listing in Path(f"/proc/{self.pid}/task").glob("*/children"):
            children: list[str] = []
            with contextlib.suppress(OSError):  # the thread is gone
                children = listing.read_text().split()
            for child in children:
                with contextlib.suppress(OSError):  # the process is gone
                    if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                        dead.add(child)
        return dead

    def signal(self, number: int) -> None:
        """Sends a signal to Triton if it runs; one that is still to start is ended as soon as it does."""
        self._asked_to_stop = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ends Triton: SIGTERM, and SIGKILL after `timeout_s`."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clean_up()

    def __enter__(self) -> "TritonServer":
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _forward_log(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        with self._process.stdout as stream:
            for line in stream:
                self._last_lines.append(line)
                sys.stderr.write(line)

    def _tail(self) -> str:
        return "".join(self._last_lines) or "(no output)"

    @property
    def _region_prefix(self) -> str:
        return f"pcbd{os.getpid()}_{self._ports['grpc']}_"

    def _clean_up(self) -> None:
        """Once, when Triton has ended; one that was killed leaves its instances and their shared memory behind."""
        if self._folder is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for region in SHARED_MEMORY.glob(f"{self._region_prefix}*"):
            region.unlink(missing_ok=True)
        self._folder.cleanup()
        self._folder = None


def _trace_options(url: str | None) -> list[str]:
    """What makes Triton send its spans to a collector: those of requests that come with a trace context, no others."""
    if url is None:
        return []
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", f"rate={UNASKED_TRACES_RATE}", f"opentelemetry,url={url}")
    return [
        f"--trace-config={setting}"
        for setting in (
            *settings,
            "opentelemetry,resource=service.name=triton",
            "opentelemetry,bsp_schedule_delay=1000",
        )
    ]


def _wheel_folder() -> Path:
    """The site-packages folder that holds nvidia-pytriton; found without importing it."""
    try:
        files = importlib.metadata.distribution("nvidia-pytriton").locate_file("")
    except importlib.metadata.PackageNotFoundError:
        raise ServerError(
            "nvidia-pytriton, which brings the tritonserver binary, is not installed; "
            "`make run` installs it, and so does pip install --no-deps nvidia-pytriton==0.7.0"
        ) from None
    return Path(str(files))


def _lay_out_python_backend(wheel: Path, folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = wheel / "pytriton/tritonserver/python_backend_stubs"
    stub = stubs / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stubs.iterdir()))
        raise ServerError(f"Triton's Python backend has no stub for Python {version}; use one of {known}")
    shutil.copytree(wheel / "pytriton/tritonserver/backends/python", folder)
    shutil.copy(stub, folder)
    (folder / stub.name).chmod(0o755)


def _environment(wheel: Path) -> dict[str, str]:
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path("/usr/lib/x86_64-linux-gnu")]
    soname = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    found = [folder for folder in folders if (folder / soname).is_file()]
    if not found:
        raise ServerError(
            f"{soname}, which Triton's Python backend loads, is in none of {', '.join(map(str, folders))}; install it "
            f"(Debian: apt-get install libpython{sys.version_info.major}.{sys.version_info.minor}) or use a Python "
            "built with --enable-shared"
        )
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(wheel / "nvidia_pytriton.libs"), str(found[0])])
    # The stub ignores PYTHONPATH; it takes the packages of the first python3 on PATH, virtual environment or not.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


def _die_with_parent() -> None:
    # SIGKILL: at SIGTERM Triton would want to log to a pipe that nobody holds any more, and hang.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Runs the command line; Triton's exit code, or 1 when it cannot be started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--traces-url", help="of an OTLP/HTTP collector, as in http://127.0.0.1:4318/v1/traces")
    parser.add_argument("options", nargs="*", help="further tritonserver options, after --")
    arguments = parser.parse_args()
    server = TritonServer(
        arguments.model_repository,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        traces_url=arguments.traces_url,
        options=arguments.options,
    )

    asked_to_stop = False

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        server.signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    try:
        server.start()
        server.wait_ready()
    except ServerError as error:
        server.stop()
        if asked_to_stop:  # while it was still starting
            return 0
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
