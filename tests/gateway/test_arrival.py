"""Bodies on their way in: slow ones take no places from others, and together they are bounded in bytes."""

import select
import socket
from contextlib import ExitStack

import httpx

from tests.conftest import BOARD
from tests.gateway.access.conftest import NOWHERE
from tests.gateway.test_failures import PATIENCE_S, gateway

PICTURE = BOARD.read_bytes()


def begin(client: httpx.Client, stack: ExitStack, length: int, sent: int) -> socket.socket:
    """A request whose body has not ended."""
    address = (client.base_url.host, client.base_url.port)
    connection = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
    head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + bytes(sent))
    return connection


def test_bodies_that_come_slowly_take_no_places() -> None:
    with gateway(NOWHERE, max_in_flight="2") as (client, _), ExitStack() as stack:
        for _ in range(6):
            begin(client, stack, length=100, sent=10)
        for _ in range(3):
            assert client.post("/detect", files={"image": PICTURE}).status_code == 503  # Triton is away, but no 429


def test_the_more_bodies_come_together_the_less_time_each_has() -> None:
    with gateway(NOWHERE, max_connections="10", body_timeout_s="3") as (client, _), ExitStack() as stack:
        begun = [begin(client, stack, length=100, sent=10) for _ in range(8)]
        ended: list[socket.socket] = []
        while len(ended) < len(begun):
            waiting = [connection for connection in reversed(begun) if connection not in ended]
            answered = select.select(waiting, [], [], PATIENCE_S)[0]  # in the order of those given
            assert all(connection.recv(1000).startswith(b"HTTP/1.1 408") for connection in answered)
            ended += answered
        assert ended == begun[::-1]  # who came last had least


def test_all_bodies_together_are_bounded() -> None:
    with gateway(NOWHERE, max_in_flight="1", max_body_bytes="1000000") as (client, _):
        with ExitStack() as stack:
            waiting = [begin(client, stack, length=900_000, sent=600_000) for _ in range(2)]
            (refused,) = select.select(waiting, [], [], PATIENCE_S)[0]
            assert refused.recv(1000).startswith(b"HTTP/1.1 429")
        assert client.post("/detect", files={"image": PICTURE}).status_code == 503
