"""The service as a whole: its metrics, its two entry points, and what its environment does without."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from export import server
from gateway import up
from gateway.up import ServiceEndedError, free_port, service
from tests.conftest import BOARD, REPOSITORY, ROOT, run_module
from tests.gateway.test_replacement import publish_shipped


def test_metrics_count_what_was_asked(gateway_url: str) -> None:
    def count(name: str) -> float:
        lines = httpx.get(f"{gateway_url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = count('pcbd_requests_total{route="/detect",status="200"}')
    with httpx.Client(timeout=60) as client:
        answers = [client.post(f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert count('pcbd_requests_total{route="/detect",status="200"}') == before + 3
    assert count('pcbd_stage_seconds_count{stage="infer"}') >= 3
    assert count("pcbd_ready") == 1
    assert count("pcbd_in_flight") == 0


def test_demo_prints_a_table_and_draws_the_picture(tmp_path: Path) -> None:
    result = run_module("gateway.demo", "--out", str(tmp_path / "demo.png"))
    assert result.returncode == 0, result.stderr
    assert "verdict ng" in result.stdout
    assert "infer" in result.stdout
    with Image.open(tmp_path / "demo.png") as drawn, Image.open(BOARD) as board:
        assert drawn.size == board.size
        assert drawn.tobytes() != board.convert("RGB").tobytes()


def test_demo_names_a_missing_and_a_wrong_picture(tmp_path: Path) -> None:
    missing = run_module("gateway.demo", "--image", str(tmp_path / "nowhere.png"))
    assert (missing.returncode, "nowhere.png" in missing.stderr) == (1, True)
    (tmp_path / "wrong.png").write_text("no picture")
    wrong = run_module("gateway.demo", "--image", str(tmp_path / "wrong.png"), "--out", str(tmp_path / "out.png"))
    assert wrong.returncode == 1
    assert "415" in wrong.stderr


def test_the_launcher_of_triton_may_say_why_and_end_by_itself() -> None:
    assert up.READY_TIMEOUT_S > server.START_TIMEOUT_S
    launcher_s = server.EXIT_TIMEOUT_S + server.EXIT_MARGIN_S + server.INSTANCE_CHECK_S + server.LOG_END_TIMEOUT_S
    assert launcher_s < up.STOP_TIMEOUT_S


def test_the_unit_that_the_page_tells_waits_for_the_gateway_and_for_triton() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (timeout_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", page, re.MULTILINE)
    assert int(timeout_s) > 2 * up.STOP_TIMEOUT_S


@pytest.mark.parametrize(("victim", "code"), [("launcher", 0), ("launcher, killed", -9), ("Triton", 1), ("gateway", 1)])
def test_the_service_stands_and_falls_as_one(victim: str, code: int) -> None:
    """SIGTERM to the launcher ends everything in order; a part that is killed takes the rest with it."""
    command = [sys.executable, "-m", "gateway.up", "--port=0", "--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    launcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert launcher.stdout is not None
    try:
        assert any("Ctrl-C stops it" in line for line in launcher.stdout)
        triton, gateway = (
            int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        )
        watched = [os.pidfd_open(pid) for pid in (triton, gateway)]
        if "launcher" in victim:
            launcher.send_signal(signal.SIGKILL if "killed" in victim else signal.SIGTERM)
        else:
            os.kill(triton if victim == "Triton" else gateway, signal.SIGKILL)
        launcher.stdout.read()
        assert launcher.wait(60) == code
        assert all(select.select([descriptor], [], [], 60)[0] for descriptor in watched)
        for descriptor in watched:
            os.close(descriptor)
    finally:
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()


def test_triton_is_where_the_command_line_says(tmp_path: Path) -> None:
    """Where the next command looks for it: `python -m export.repository list --triton 127.0.0.1:8001`."""
    ports = (free_port(), free_port(), free_port())
    with service(REPOSITORY, 0, {"PCBD_DRAIN_S": "0"}, tmp_path / "log", ports):
        assert httpx.get(f"http://127.0.0.1:{ports[0]}/v2/health/ready").status_code == 200
        listed = run_module("export.repository", "list", "--triton", f"127.0.0.1:{ports[1]}")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert "nv_inference_count" in httpx.get(f"http://127.0.0.1:{ports[2]}/metrics").text


@pytest.mark.parametrize("option", ["--port", "--http-port", "--grpc-port", "--metrics-port"])
def test_a_taken_port_is_named_with_its_option_before_anything_starts(option: str) -> None:
    others = [f"{each}=0" for each in ("--port", "--http-port", "--grpc-port", "--metrics-port") if each != option]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_module("gateway.up", f"{option}={port}", *others)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert f"{option} another" in line


@pytest.mark.parametrize("setting", [("PCBD_TLS_CERTIFICATE", "gateway.pem"), ("PCBD_HOST", "10.0.0.5")], ids="=".join)
def test_a_gateway_that_would_answer_elsewhere_is_refused_with_the_commands_that_start_it(
    setting: tuple[str, str],
) -> None:
    with pytest.raises(ServiceEndedError, match=setting[0]) as refused, service(REPOSITORY, 0, dict([setting])):
        pass
    assert "python -m export.server" in str(refused.value)


def test_the_port_is_that_of_the_environment_where_the_command_line_names_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_module("gateway.up", f"--http-port={port}", PCBD_PORT=str(port))
    assert (refused.returncode, f"--port is {port}" in refused.stderr) == (1, True)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    assert [publish_shipped(models, sha, 0.4) for sha in ("aa", "bb")] == [1, 2]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # nobody is there
    with (
        service(models, free_port(), {"PCBD_DRAIN_S": "0"}, tmp_path / "log") as url,
        httpx.Client(base_url=url, trust_env=False, timeout=600) as client,
    ):
        assert client.get("/readyz").status_code == 200
        activated = client.post("/admin/models/2/activate")
        assert (activated.status_code, client.get("/readyz").json()["model"]["version"]) == (200, "2"), activated.text


def test_the_service_and_the_promotion_of_versions_do_without_what_trains_and_exports() -> None:
    source = "import sys, gateway.__main__, gateway.demo, export.server, export.runtime.engine, export.repository; "
    source += "sys.exit(bool({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0
