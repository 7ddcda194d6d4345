import contextlib
import ctypes
import io
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from tritonclient.grpc import InferenceServerClient, InferInput

from export import server as server_module
from export.server import (
    EXIT_MARGIN_S,
    EXIT_TIMEOUT_S,
    INSTANCE_CHECK_S,
    LOG_END_TIMEOUT_S,
    OWN_OPTIONS,
    SHARED_MEMORY,
    START_TIMEOUT_S,
    ServerError,
    TritonServer,
    _delete_orphans,
    _exit_timeout_s,
    main,
)
from gateway.up import free_port
from tests.conftest import ROOT, embedded_triton, run_module
from tests.gateway.test_failures import wait_until

CONFIG = """name: "{name}"
backend: "python"
input {{ name: "A" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "B" data_type: TYPE_FP32 dims: 1 }}
instance_group {{ kind: KIND_CPU }}
"""


def model(repository: Path, name: str, source: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG.format(name=name))
    (repository / name / "1" / "model.py").write_text(source)


IDLE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
STUCK = """class TritonPythonModel:
    def execute(self, requests):
        import time

        print("execute does not return", flush=True)
        time.sleep(3600)
"""
PR_SET_CHILD_SUBREAPER = 36
SLOW = IDLE + "    def initialize(self, args):\n        import time\n\n        time.sleep(3600)\n"


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """Triton's are its model instances, the launcher's is Triton."""
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for listing in listings for child in listing.read_text().split()]


@contextlib.contextmanager
def launcher(repository: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m export.server` on free ports, its log to be read; killed in the end if it still runs."""
    ports = [f"--{name}-port={free_port()}" for name in ("http", "grpc", "metrics")]
    process = subprocess.Popen(
        [sys.executable, "-m", "export.server", "--model-repository", str(repository), *ports, *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Reads the launcher's log up to the line with these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the launcher ended without saying {words!r}")


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Puts a shell script in the place of tritonserver; all else of the wheel is its own."""
    real = server_module._wheel_folder()
    wheel = folder / "wheel"
    (wheel / "pytriton/tritonserver/bin").mkdir(parents=True)
    for name in ("backends", "python_backend_stubs"):
        (wheel / "pytriton/tritonserver" / name).symlink_to(real / "pytriton/tritonserver" / name)
    program = wheel / "pytriton/tritonserver/bin/tritonserver"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(server_module, "_wheel_folder", lambda: wheel)


def test_triton_is_ready_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    model(tmp_path, "idle", IDLE)
    with embedded_triton(tmp_path) as server:
        assert server.is_ready()
        pid = server.pid
    assert not is_alive(pid)


def test_a_model_that_cannot_be_loaded_is_named_with_its_cause(tmp_path: Path) -> None:
    model(tmp_path, "broken", IDLE + "    def initialize(self, args):\n        raise ValueError('no such engine')\n")
    with pytest.raises(ServerError, match="no such engine"), embedded_triton(tmp_path):
        pass


def test_a_model_without_its_program_is_named_and_not_waited_for(tmp_path: Path) -> None:
    model(tmp_path, "empty", IDLE)
    (tmp_path / "empty" / "1" / "model.py").unlink()  # Triton itself waits for ever
    with pytest.raises(ServerError, match=r"died(.|\n)*empty/1/model\.py"), embedded_triton(tmp_path):
        pass


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="nowhere"):
        TritonServer(tmp_path / "nowhere").start()


def test_a_dead_model_instance_ends_triton(tmp_path: Path) -> None:
    """Triton 2.51 neither replaces it nor becomes unready; every request that meets it fails."""
    model(tmp_path, "idle", IDLE)
    with embedded_triton(tmp_path) as server:
        (stub,) = children(server.pid)
        os.kill(stub, signal.SIGKILL)
        assert server.wait() == 1
        assert not is_alive(server.pid)


def test_a_killed_triton_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its model instances live on by themselves, and so does their shared memory."""
    model(tmp_path, "idle", IDLE)
    with embedded_triton(tmp_path) as server:
        (stub,) = children(server.pid)
        regions = list(SHARED_MEMORY.glob(f"pcbd{os.getpid()}_{server.grpc_url.rpartition(':')[2]}_*"))
        assert regions
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        wait_until(lambda: not is_alive(stub))  # a signal takes its time to kill
    assert not any(region.exists() for region in regions)


def test_a_signal_before_triton_has_started_is_not_lost(tmp_path: Path) -> None:
    model(tmp_path, "idle", IDLE)
    server = embedded_triton(tmp_path)
    server.ask_to_stop()
    server.start()
    triton = os.pidfd_open(server.pid)
    try:
        assert select.select([triton], [], [], 30)[0], "Triton runs on"
    finally:
        server.stop()
        os.close(triton)


def test_triton_is_asked_directly_whatever_proxy_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    model(tmp_path, "idle", IDLE)
    server = embedded_triton(tmp_path)
    server.start()
    try:
        server.wait_ready(30)
    finally:
        server.stop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_triton_ends_with_its_launcher(number: signal.Signals, code: int, tmp_path: Path) -> None:
    model(tmp_path, "idle", IDLE)
    with launcher(tmp_path) as process:
        read_until(process, "Started GRPCInferenceService")
        assert process.stderr is not None
        (child,) = children(process.pid)
        triton = os.pidfd_open(child)
        process.send_signal(number)
        process.stderr.read()  # a launcher must not block on a full pipe; ends when nobody holds it any more
        assert process.wait(30) == code
        assert select.select([triton], [], [], 30)[0], "Triton outlived its launcher"
        os.close(triton)


@pytest.mark.parametrize(("exit_timeout_s", "again"), [(1, False), (3600, True)], ids=["in time", "asked again"])
def test_a_triton_with_a_stuck_instance_is_killed(exit_timeout_s: int, again: bool, tmp_path: Path) -> None:
    """It says that it exits immediately, and does not."""
    model(tmp_path, "stuck", STUCK)
    port = free_port()
    with launcher(tmp_path, f"--grpc-port={port}", "--", f"--exit-timeout-secs={exit_timeout_s}") as process:
        read_until(process, "Triton is ready")
        (triton,) = children(process.pid)
        (instance,) = children(triton)
        asked = InferInput("A", [1], "FP32")
        asked.set_data_from_numpy(np.zeros(1, np.float32))
        with InferenceServerClient(f"127.0.0.1:{port}") as client:
            client.async_infer("stuck", [asked], lambda result, error: None)
            read_until(process, "execute does not return")
            process.send_signal(signal.SIGTERM)
            read_until(process, "Signal (15) received")
            if again:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGKILL % 256
        wait_until(lambda: not is_alive(instance))  # a signal takes its time to kill


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("trap '' TERM\nkill -TERM $PPID\nkill -INT $PPID\nexec sleep 3600", 1),
        ("kill -TERM $PPID\nexec sleep 3600", 0),
    ],
    ids=["killed", "ended"],
)
def test_a_start_that_is_broken_off_ends_well_unless_triton_had_to_be_killed(
    script: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in signals its launcher, which is this process."""
    stand_in(monkeypatch, tmp_path, script)
    ports = [f"--{name}-port={free_port()}" for name in ("http", "grpc", "metrics")]
    monkeypatch.setattr("sys.argv", ["export.server", "--model-repository", str(tmp_path), *ports])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main() == code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_model_that_loads_for_longer_than_the_start_timeout_ends_the_launcher(tmp_path: Path) -> None:
    model(tmp_path, "slow", SLOW)
    ports = [f"--{name}-port={free_port()}" for name in ("http", "grpc", "metrics")]
    done = run_module("export.server", "--model-repository", str(tmp_path), *ports, "--start-timeout-s", "1.5")
    assert done.returncode == 1
    assert "not ready within 1.5 s" in done.stderr
    assert "--start-timeout-s" in done.stderr


def test_triton_may_start_as_long_as_compose_and_kubernetes_wait() -> None:
    triton = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["x-triton"]
    deployment = yaml.safe_load((ROOT / "k8s" / "base" / "triton" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert float(triton["healthcheck"]["start_period"].removesuffix("s")) <= START_TIMEOUT_S
    assert probe["periodSeconds"] * probe["failureThreshold"] <= START_TIMEOUT_S


def test_a_stuck_triton_is_killed_before_compose_kills_its_launcher() -> None:
    triton = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["x-triton"]
    grace_s = float(triton["stop_grace_period"].removesuffix("s"))
    assert grace_s > EXIT_TIMEOUT_S + EXIT_MARGIN_S + INSTANCE_CHECK_S + LOG_END_TIMEOUT_S


@pytest.mark.parametrize("own", OWN_OPTIONS)
@pytest.mark.parametrize("form", ["{}=9", "{}"], ids=["in one word", "in two"])
def test_what_the_launcher_sets_itself_is_refused_behind_it(
    own: str, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["export.server", "--model-repository", "nowhere", "--", form.format(own), "9"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert f"{form.format(own)} behind --" in told
    assert (f"give {OWN_OPTIONS[own]} before --" if OWN_OPTIONS[own] else "leave it out") in told


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ([], EXIT_TIMEOUT_S),
        (["--exit-timeout-secs=20"], 20),
        (["--exit-timeout-secs", "20"], 20),
        (["--exit-timeout-secs=20", "--log-verbose=1", "--exit-timeout-secs=5"], 5),
    ],
)
def test_the_exit_timeout_is_the_one_that_triton_takes(options: list[str], seconds: float) -> None:
    assert _exit_timeout_s(options) == seconds


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a file"))
    with pytest.raises(ServerError, match=r"laid out in .*a file.*TMPDIR"):
        embedded_triton(tmp_path).start()


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_port_that_somebody_listens_on_is_named(name: str, tmp_path: Path) -> None:
    ports = {f"{each}_port": free_port() for each in ("http", "grpc", "metrics")}
    taken = ports[f"{name}_port"]
    with (
        socket.create_server(("127.0.0.1", taken)),
        pytest.raises(ServerError, match=f"--{name}-port is {taken}.*another port"),
    ):
        TritonServer(tmp_path, **ports).start()


def test_who_does_not_speak_http_is_not_triton(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0-stranger\r\n")

        stranger = threading.Thread(target=greet)
        stranger.start()
        assert not TritonServer(tmp_path, http_port=listener.getsockname()[1]).is_ready()
        stranger.join()


class SlowTerminal(io.StringIO):
    """Whoever writes to it is behind what is to be written."""

    def write(self, text: str) -> int:
        time.sleep(0.001)
        return super().write(text)


def test_the_reason_in_the_last_line_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, "seq 200\necho 'the reason'\nexit 1")
    monkeypatch.setattr("sys.stderr", SlowTerminal())
    with pytest.raises(ServerError, match="the reason"), embedded_triton(tmp_path):
        pass


def test_the_folder_of_a_killed_launcher_is_deleted_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, folders = tmp_path / "models", tmp_path / "temporary"
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    model(repository, "idle", IDLE)
    (folders / "tritonserver-of-somebody" / "python").mkdir(parents=True)  # no launcher's: without its lock
    with launcher(repository, TMPDIR=str(folders)) as process:
        read_until(process, "Started Metrics Service")
        _delete_orphans()
        assert len(list(folders.iterdir())) == 2
    _delete_orphans()
    assert [folder.name for folder in folders.iterdir()] == ["tritonserver-of-somebody"]


@pytest.fixture
def nobody_reaps() -> Iterator[None]:
    """Orphans become this process's children and stay zombies, as in a container without an init."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def test_instances_that_outlive_a_killed_launcher_end_when_the_next_one_starts(
    nobody_reaps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask whether Triton's process is there, and a zombie is."""
    repository, folders = tmp_path / "models", tmp_path / "temporary"
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    model(repository, "idle", IDLE)
    with launcher(repository, TMPDIR=str(folders)) as process:
        read_until(process, "Started Metrics Service")
        (triton,) = children(process.pid)
        (stub,) = children(triton)
        process.kill()
        process.wait()
    wait_until(lambda: not is_alive(triton))
    regions = list(SHARED_MEMORY.glob(f"pcbd{process.pid}_*"))
    ended = os.pidfd_open(stub)
    try:
        with embedded_triton(repository):
            assert select.select([ended], [], [], 30)[0], "it outlived the start of the next launcher"
        assert regions
        assert not any(region.exists() for region in regions)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)
        for orphan in (triton, stub):
            os.waitpid(orphan, 0)
