import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.server import SHARED_MEMORY, ServerError, TritonServer
from gateway.up import free_port
from tests.conftest import ROOT, embedded_triton
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


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def instances(server: TritonServer) -> list[int]:
    listings = Path(f"/proc/{server.pid}/task").glob("*/children")
    return [int(pid) for listing in listings for pid in listing.read_text().split()]


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
        (stub,) = instances(server)
        os.kill(stub, signal.SIGKILL)
        assert server.wait() == 1
        assert not is_alive(server.pid)


def test_a_killed_triton_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its model instances live on by themselves, and so does their shared memory."""
    model(tmp_path, "idle", IDLE)
    with embedded_triton(tmp_path) as server:
        (stub,) = instances(server)
        regions = list(SHARED_MEMORY.glob(f"pcbd{os.getpid()}_{server.grpc_url.rpartition(':')[2]}_*"))
        assert regions
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        wait_until(lambda: not is_alive(stub))  # a signal takes its time to kill
    assert not any(region.exists() for region in regions)


def test_a_signal_before_triton_has_started_is_not_lost(tmp_path: Path) -> None:
    model(tmp_path, "idle", IDLE)
    server = embedded_triton(tmp_path)
    server.signal(signal.SIGTERM)
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
    ports = [f"--{name}-port={free_port()}" for name in ("http", "grpc", "metrics")]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "export.server", "--model-repository", str(tmp_path), *ports],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launcher.stderr is not None
    try:
        for line in launcher.stderr:
            if "Started GRPCInferenceService" in line:
                break
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        assert len(children) == 1
        triton = os.pidfd_open(int(children[0]))
        launcher.send_signal(number)
        launcher.stderr.read()  # a launcher must not block on a full pipe; ends when nobody holds it any more
        assert launcher.wait(30) == code
        assert select.select([triton], [], [], 30)[0], "Triton outlived its launcher"
        os.close(triton)
    finally:
        launcher.kill()
        launcher.wait()
        launcher.stderr.close()
