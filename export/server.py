"""The embedded Triton: the tritonserver of the nvidia-pytriton wheel, started directly, on a CPU, without Docker.

    python -m export.server --model-repository model_repository

Waits until every model is ready, forwards Triton's log, ends Triton on SIGTERM and SIGINT, and exits with
its code. A Triton that outlives its exit timeout is killed, and so is one that gets a second signal. Models are
replaced while they serve by python -m export.repository. Production runs the container instead; this file knows
nothing of what the models do.
"""

import argparse
import contextlib
import ctypes
import fcntl
import http.client
import importlib.metadata
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

START_TIMEOUT_S = 600.0  # engines of a large checkpoint load for minutes; compose and Kubernetes wait as long
STOP_TIMEOUT_S = 20.0
EXIT_TIMEOUT_S = 30.0  # Triton's own, for what it is at when it is to end; --exit-timeout-secs names another
EXIT_MARGIN_S = 5.0  # after it Triton is stuck; with it less than the 40 s after which compose kills the launcher
DEAD_INSTANCE_STOP_TIMEOUT_S = 2.0  # for tiles at the others; Triton itself would wait for the dead one
INSTANCE_CHECK_S = 1.0
LOG_LINES_KEPT = 40
LOG_END_TIMEOUT_S = 2.0  # for the last lines of a process that has ended
FOLDER_PREFIX, LOCK = "tritonserver-", "lock"
STUB = "triton_python_backend_stub"
PR_SET_PDEATHSIG = 1
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - of the Python backend
UNASKED_TRACES_RATE = 2**31 - 1  # one in so many requests without a trace context
# All models from the start, and others when they are told of; without this Triton never looks at its models again.
EXPLICIT_CONTROL = ("--model-control-mode=explicit", "--load-model=*")
# What Triton is told by this launcher alone, and the launcher's own option for it, if there is one.
OWN_OPTIONS = {
    "--http-port": "--http-port",
    "--grpc-port": "--grpc-port",
    "--metrics-port": "--metrics-port",
    "--model-repository": "--model-repository",
    "--model-store": "--model-repository",
    "--backend-directory": None,
    "--backend-config=python,shm-region-prefix-name": None,
}
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
        self._log = threading.Thread(target=self._forward_log, daemon=True)
        self._held = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._is_cleaned_up = False
        self._kill_at: float | None = None  # by the monotonic clock, since it was asked to stop

    @property
    def pid(self) -> int:
        """Process id of tritonserver.

        Raises:
            ServerError: it has not been started.
        """
        if self._process is None:
            raise ServerError("Triton has not been started; call start() first")
        return self._process.pid

    @property
    def asked_to_stop(self) -> bool:
        """Whether it was, by `ask_to_stop`."""
        return self._kill_at is not None

    @property
    def was_killed(self) -> bool:
        """Whether it has ended by SIGKILL."""
        return self._process is not None and self._process.returncode == -signal.SIGKILL

    def start(self) -> None:
        """Starts Triton and returns at once.

        Raises:
            ServerError: the wheel, the Python stub, libpython or the repository is missing, somebody listens on a
                port, or the temporary folder cannot be written.
        """
        if not self.model_repository.is_dir():
            raise ServerError(
                f"model repository {self.model_repository} is not a folder; build one with python -m export.build"
            )
        _check_ports(self._ports)
        wheel = _wheel_folder()
        try:
            self._process = self._launch(wheel, _environment(wheel))
        except OSError as error:
            self._held.close()
            raise ServerError(
                f"Triton cannot be started: {error}; its Python backend is laid out in "
                f"{tempfile.tempdir or 'the temporary folder'}: make room there, or have TMPDIR name another folder"
            ) from error
        self._log.start()
        if self.asked_to_stop:  # before there was a process to tell
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
            self._kill_overdue()
            code = self._process.poll() if self._process else None
            if code is not None:
                self._clean_up()
                raise ServerError(f"Triton exited with code {code} before it was ready:\n" + self._tail())
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Triton was not ready within {timeout_s:g} s; if its models take longer to load, give "
                    "--start-timeout-s more:\n" + self._tail()
                )
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether Triton answers, which it does not before all its models are loaded."""
        try:
            with DIRECT.open(f"http://{self.http_url}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):  # nobody is there, or somebody else
            return False

    def wait(self) -> int:
        """Waits for Triton to end and returns its exit code, -9 of one that had to be killed.

        Stops it and returns 1 when a model instance died.
        """
        if self._process is None:
            raise ServerError("Triton has not been started; call start() first")
        dead: set[str] = set()
        while True:
            try:
                code = self._process.wait(INSTANCE_CHECK_S)
            except subprocess.TimeoutExpired:
                self._kill_overdue()
                former, dead = dead, self._dead_instances()
                if dead & former and not self.asked_to_stop:  # twice: one that Triton unloads is reaped at once
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
        """Sends a signal to Triton if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        """SIGTERM; one that is still to start is ended as soon as it does, and one that is asked again is killed.

        `wait` kills it when it has not ended EXIT_MARGIN_S after its exit timeout: with a stuck instance it says
        "Exiting immediately" and does not.
        """
        number = signal.SIGKILL if self.asked_to_stop else signal.SIGTERM
        if not self.asked_to_stop:
            self._kill_at = time.monotonic() + _exit_timeout_s(self._options) + EXIT_MARGIN_S
        self.signal(number)

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

    def _launch(self, wheel: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        _delete_orphans()
        backends = self._held.enter_context(_backend_folder(wheel))
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
        return subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,  # the models import export.runtime from here
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_die_with_parent,
            start_new_session=True,  # Ctrl-C reaches the launcher, which stops Triton in order
        )

    def _kill_overdue(self) -> None:
        """Kills Triton when it was asked to stop and its time for that is over."""
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_at = math.inf  # said once
            sys.stderr.write("error: Triton was asked to stop and does not end; killing it\n")
            self.signal(signal.SIGKILL)

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
        if self._is_cleaned_up:
            return
        self._is_cleaned_up = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._log.join(LOG_END_TIMEOUT_S)  # its last lines hold the reason
        for region in SHARED_MEMORY.glob(f"{self._region_prefix}*"):
            region.unlink(missing_ok=True)
        self._held.close()


def _check_ports(ports: Mapping[str, int]) -> None:
    """Who listens there already would be taken for this Triton, and it would load its models before it noticed."""
    for name, port in ports.items():
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except (OSError, OverflowError) as error:
            raise ServerError(
                f"--{name}-port is {port}, and 127.0.0.1:{port} cannot be listened on: {error}; "
                f"end what listens there, or give --{name}-port another port"
            ) from error


def _exit_timeout_s(options: Sequence[str]) -> float:
    """How long Triton waits for what it is at when it is to end; of several such options the last counts."""
    words = [word for option in options for word in option.split("=", 1)]
    given = [value for name, value in pairwise(words) if name == "--exit-timeout-secs" and value.isdecimal()]
    return float(given[-1]) if given else EXIT_TIMEOUT_S


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


@contextlib.contextmanager
def _backend_folder(wheel: Path) -> Iterator[Path]:
    """A folder with the Python backend in it, locked as long as this process lives."""
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name, (Path(name) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _lay_out_python_backend(wheel, Path(name) / "python")
        yield Path(name)


def _delete_orphans() -> None:
    """Of launchers that were killed: ends their instances, deletes their folders, whose lock nobody holds."""
    for backend in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/python"):
        with contextlib.suppress(OSError), (backend.parent / LOCK).open("r+") as lock:  # held, or another user's
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _kill_instances(backend / STUB)
            shutil.rmtree(backend.parent)


def _kill_instances(stub: Path) -> None:
    """Kills the instances that run this stub.

    They end by themselves when Triton's process is gone; as a zombie that nobody reaps it never is.
    """
    for program in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if program.readlink() == stub.resolve():
                command = (program.parent / "cmdline").read_bytes().split(b"\0")
                os.kill(int(program.parent.name), signal.SIGKILL)
                for region in command[2:3]:  # none of one that ended meanwhile
                    (SHARED_MEMORY / os.fsdecode(region)).unlink(missing_ok=True)


def _lay_out_python_backend(wheel: Path, folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = wheel / "pytriton/tritonserver/python_backend_stubs"
    stub = stubs / version / STUB
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


def _refusal(options: Sequence[str]) -> str | None:
    """Why options behind -- are not passed on; what this file counts on would no longer hold."""
    for option in options:
        for own, instead in OWN_OPTIONS.items():
            if option == own or option.startswith(f"{own}="):
                return f"{option} behind --: the launcher sets it; " + (
                    f"give {instead} before --" if instead else "leave it out"
                )
    return None


def main() -> int:
    """Runs the command line; Triton's exit code, or 1 when it cannot be started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument(
        "--start-timeout-s",
        type=float,
        default=START_TIMEOUT_S,
        help="for all models to be ready; default: %(default)g",
    )
    parser.add_argument("--traces-url", help="of an OTLP/HTTP collector, as in http://127.0.0.1:4318/v1/traces")
    parser.add_argument("options", nargs="*", help="further tritonserver options, after --")
    arguments = parser.parse_args()
    if refusal := _refusal(arguments.options):
        parser.error(refusal)
    server = TritonServer(
        arguments.model_repository,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        traces_url=arguments.traces_url,
        options=arguments.options,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.ask_to_stop())
    try:
        server.start()
        server.wait_ready(arguments.start_timeout_s)
        sys.stderr.write(f"Triton is ready: HTTP {server.http_url}, gRPC {server.grpc_url}\n")
    except ServerError as error:
        server.stop()
        if server.asked_to_stop:  # while it was still starting
            return 1 if server.was_killed else 0
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
