"""A client that goes away takes its work with it, unless it left a key for coming back."""

import signal
import socket

import httpx

from export.server import TritonServer
from tests.gateway.test_failures import PICTURE, gateway, status, wait_until


def leave(client: httpx.Client, headers: str = "") -> None:
    """Sends a whole request, waits until it is at work, and hangs up."""
    url = client.base_url
    headers += f"Host: x\r\nContent-Type: image/png\r\nContent-Length: {len(PICTURE)}\r\n"
    head = f"POST /detect HTTP/1.1\r\n{headers}\r\n"
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head.encode() + PICTURE)
        wait_until(lambda: gauge(client, "pcbd_in_flight") == 1)


def gauge(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_the_work_for_a_client_that_went_away_is_dropped(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="600", watch_interval_s="600") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            leave(client)
            wait_until(lambda: gauge(client, "pcbd_in_flight") == 0)
            assert gauge(client, 'pcbd_requests_total{route="/detect",status="499"}') == 1
            leave(client, "Idempotency-Key: board-17\r\n")
            assert gauge(client, "pcbd_in_flight") == 1  # it goes on
        finally:
            triton.signal(signal.SIGCONT)
        again = client.post(
            "/detect", content=PICTURE, headers={"Content-Type": "image/png", "Idempotency-Key": "board-17"}
        )
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
