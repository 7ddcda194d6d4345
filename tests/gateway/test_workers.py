"""Several workers on one port: none of them is missed when it dies, and metrics are those of all."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from export.server import TritonServer
from gateway.up import free_port
from tests.conftest import BOARD, ROOT, run_module
from tests.gateway.test_failures import PATIENCE_S, gateway, status, wait_until

PICTURE = BOARD.read_bytes()
CLIENTS = 4
ONE_TILE = {"prompt": "短路", "regions": "[[[0, 0], [40, 0], [40, 40]]]"}


def workers_of(supervisor: int) -> set[int]:
    """The processes that serve: the others are multiprocessing's own."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics", headers={"Connection": "close"}).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def never(_listener: socket.socket, _came_up: Callable[[], None]) -> None:
    """A worker that cannot serve."""
    raise RuntimeError("there is nothing to serve with")


class Load:
    """Clients that ask one request after another, each on a connection of its own, until they are told to stop."""

    def __init__(self, method: str, url: str, **request: object) -> None:
        self.answers: list[int] = []
        self.faults: list[httpx.TransportError] = []
        self.ended = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._clients: list[Future[None]] = [self._pool.submit(self._ask, method, url, request) for _ in range(CLIENTS)]

    def _ask(self, method: str, url: str, request: dict[str, object]) -> None:
        while not self.ended.is_set():
            try:
                self.answers.append(httpx.request(method, url, timeout=PATIENCE_S, **request).status_code)
            except httpx.TransportError as fault:
                self.faults.append(fault)

    def end(self) -> None:
        self.ended.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()

    def wait_for_more(self, number: int = 20) -> None:
        enough = len(self.answers) + number
        wait_until(lambda: len(self.answers) >= enough)


def test_a_worker_that_is_killed_takes_along_only_what_it_held() -> None:
    with gateway(f"127.0.0.1:{free_port()}", workers="2", drain_s="0") as (client, supervisor):
        wait_until(lambda: metric(client, "pcbd_workers") == 2)
        load = Load("GET", f"{client.base_url}/defects")
        try:
            load.wait_for_more()
            before = workers_of(supervisor.pid)
            counted = metric(client, 'pcbd_requests_total{route="/defects"')
            os.kill(min(before), signal.SIGKILL)
            load.wait_for_more()
            wait_until(lambda: len(workers_of(supervisor.pid) - before) == 1)
            wait_until(lambda: metric(client, "pcbd_workers") == 2)
            load.wait_for_more()
        finally:
            load.end()
        assert set(load.answers) == {200}
        assert len(load.faults) <= CLIENTS
        assert not [fault for fault in load.faults if isinstance(fault, httpx.ConnectError)]
        assert metric(client, 'pcbd_requests_total{route="/defects"') > counted  # what the dead one counted stays
        assert metric(client, "pcbd_in_flight") == 0
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_S) == 0


def test_sigterm_under_load_loses_no_request(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, workers="2", drain_s="3", deadline_s="60") as (client, supervisor):
        wait_until(lambda: metric(client, "pcbd_ready") == 1 and metric(client, "pcbd_workers") == 2)
        load = Load("POST", f"{client.base_url}/detect", files={"image": PICTURE}, data=ONE_TILE)
        try:
            load.wait_for_more(CLIENTS)
            supervisor.terminate()
            # As a load balancer does: no new requests once a probe has failed.
            wait_until(lambda: httpx.get(f"{client.base_url}/readyz").status_code == 503)
        finally:
            load.end()
        assert (set(load.answers), load.faults) == ({200}, [])
        assert supervisor.wait(PATIENCE_S) == 0


def test_every_worker_shows_the_metrics_of_all(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, workers="2", deadline_s="60") as (client, _):
        wait_until(lambda: metric(client, "pcbd_ready") == 1 and metric(client, "pcbd_workers") == 2)
        for _ in range(6):
            answer = httpx.post(f"{client.base_url}/detect", files={"image": PICTURE}, data=ONE_TILE, timeout=60)
            assert answer.status_code == 200
        told = {metric(client, 'pcbd_requests_total{route="/detect",status="200"}') for _ in range(12)}
        assert told == {6}
        assert metric(client, "pcbd_model_info{") == 1
        assert 'pid="' not in client.get("/metrics").text  # a gauge without a multiprocess_mode has a value a worker


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_supervisor(ending: signal.Signals) -> None:
    with gateway(f"127.0.0.1:{free_port()}", workers="2", drain_s="0") as (client, supervisor):
        wait_until(lambda: metric(client, "pcbd_workers") == 2)
        watched = [os.pidfd_open(pid) for pid in workers_of(supervisor.pid)]
        supervisor.send_signal(ending)
        assert supervisor.wait(PATIENCE_S) == (0 if ending == signal.SIGINT else -signal.SIGKILL)
        assert all(select.select([descriptor], [], [], PATIENCE_S)[0] for descriptor in watched)
        for descriptor in watched:
            os.close(descriptor)
        assert status(client, "/healthz") == 0


def test_a_gateway_of_which_no_worker_comes_up_ends() -> None:
    source = "import sys; from gateway.workers import Workers; from tests.gateway.test_workers import never; "
    source += "sys.exit(Workers(2, never).run('127.0.0.1', 0))"
    ended = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert (ended.returncode, "none has come up" in ended.stderr) == (1, True), ended.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_image_store_that_there_cannot_be_is_told_once(workers: str) -> None:
    refused = run_module("gateway", PCBD_WORKERS=workers, PCBD_IMAGE_STORE="ftp://x/y", PCBD_PORT="0")
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, line.startswith("error: PCBD_IMAGE_STORE is 'ftp://x/y'")) == (1, True), line


def test_a_port_that_is_taken_is_told_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_module("gateway", PCBD_WORKERS="2", PCBD_PORT=str(port))
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, line.startswith(f"error: 127.0.0.1:{port}: "), "PCBD_PORT" in line) == (1, True, True)
