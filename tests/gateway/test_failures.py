"""The gateway when Triton is away, slow or overrun, and when it is asked to stop itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from export.server import TritonServer
from gateway.up import free_port
from tests.chaos.proxy import Proxy
from tests.conftest import BOARD, REPOSITORY, ROOT

PICTURE = BOARD.read_bytes()
PATIENCE_S = 60.0
POLL_S = 0.02
ENDING_S = 5.0  # for what a test has left under way


@contextmanager
def gateway(triton_url: str, **settings: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A gateway of the test's own before the Triton at that address; alive, not necessarily ready."""
    port = free_port()
    defaults = {"port": str(port), "triton_url": triton_url, "model_repository": str(REPOSITORY), "drain_s": "0"}
    settings = defaults | settings
    environment = {f"PCBD_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **environment})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            wait_until(lambda: status(client, "/healthz") == 200)
            yield client, process
    finally:
        process.terminate()  # and is counted in the coverage
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def status(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls, since the state is another process's; fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(POLL_S)  # and leaves the processor to those who are waited for


def detect(client: httpx.Client) -> httpx.Response:
    return client.post("/detect", files={"image": PICTURE}, data={"prompt": "短路"})


def test_the_gateway_outlives_triton_and_finds_it_again() -> None:
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    url = f"127.0.0.1:{ports['grpc_port']}"
    with gateway(url, watch_interval_s="0.1") as (client, _):
        refused = detect(client)
        assert (refused.status_code, status(client, "/readyz"), status(client, "/healthz")) == (503, 503, 200)
        assert int(refused.headers["Retry-After"]) >= 1
        for _ in range(2):
            with TritonServer(REPOSITORY, **ports) as triton:
                wait_until(lambda: status(client, "/readyz") == 200)
                assert detect(client).status_code == 200
                triton.signal(signal.SIGKILL)
                refused = detect(client)
                assert refused.status_code == 503
                assert "Retry-After" in refused.headers
                assert status(client, "/healthz") == 200
            wait_until(lambda: status(client, "/readyz") == 503)


def test_connections_that_the_network_has_forgotten_are_replaced(triton: TritonServer) -> None:
    with Proxy(triton.grpc_url) as proxy, gateway(proxy.url, deadline_s="2") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        proxy.fail("forget")
        wait_until(lambda: status(client, "/readyz") == 503)
        proxy.heal()
        wait_until(lambda: detect(client).status_code == 200)


def test_a_stuck_triton_is_given_up_at_the_deadline(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="2") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            answer = detect(client)
            assert answer.status_code in {503, 504}  # 503 once the watch has noticed
            assert status(client, "/healthz") == 200
        finally:
            triton.signal(signal.SIGCONT)
        wait_until(lambda: detect(client).status_code == 200)  # a busy machine may need longer than the deadline


def test_what_is_too_much_is_refused_at_once(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, max_in_flight="1", deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: detect(client), range(8)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 429}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
        assert 'pcbd_requests_total{route="/detect",status="429"}' in client.get("/metrics").text


def test_sigterm_fails_readiness_first_and_finishes_what_is_under_way(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, drain_s="3", deadline_s="60") as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        with ThreadPoolExecutor(4) as pool:
            under_way = [pool.submit(detect, client) for _ in range(4)]
            process.terminate()
            wait_until(lambda: status(client, "/readyz") == 503)
            assert status(client, "/healthz") == 200
            assert detect(client).status_code == 200  # still served while load balancers look away
            assert [future.result().status_code for future in under_way] == [200] * 4
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("fault", ["no folder", "another checkpoint"])
def test_a_tokenizer_that_does_not_belong_to_the_model_keeps_it_unready(
    fault: str, triton: TritonServer, tmp_path: Path
) -> None:
    if fault == "another checkpoint":
        folder = tmp_path / "prompt_encoder" / "1"
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_bytes((REPOSITORY / "prompt_encoder/1/tokenizer.json").read_bytes())
        (folder / "manifest.json").write_text('{"checkpoint_sha256": "another"}')
    with gateway(triton.grpc_url, watch_interval_s="0.1", model_repository=str(tmp_path)) as (client, _):
        wait_until(lambda: "PCBD_MODEL_REPOSITORY" in client.get("/readyz").json()["detail"])
        assert detect(client).status_code == 503
