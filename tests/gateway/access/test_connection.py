"""Clients that hold a connection and give nothing for it, at a real gateway: dropped, while others get through."""

import re
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.gateway.access.conftest import NOWHERE
from tests.gateway.test_failures import PATIENCE_S, gateway, wait_until

MAX_CONNECTIONS = 8
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    limits = {"head_timeout_s": "2", "send_timeout_s": "2", "max_connections": str(MAX_CONNECTIONS)}
    with gateway(NOWHERE, **limits) as (client, _):
        yield client


def connect(client: httpx.Client, stack: ExitStack, receive_bytes: int | None = None) -> socket.socket:
    connection = stack.enter_context(socket.socket())
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE_S)
    connection.connect((client.base_url.host, client.base_url.port))
    return connection


def is_closed(connection: socket.socket, wait_s: float = 0) -> bool:
    """Whether the gateway has ended it, or does so while this waits; what it has sent before is read."""
    try:
        while select.select([connection], [], [], wait_s)[0]:
            if connection.recv(2**16) == b"":
                return True
    except ConnectionError:
        return True
    return False


def dribble(connection: socket.socket, data: bytes) -> bool:
    """Sends a little; whether the gateway has ended the connection."""
    try:
        connection.sendall(data)
    except ConnectionError:
        return True
    return is_closed(connection, wait_s=0.1)


def dropped(client: httpx.Client, reason: str) -> float:
    found = re.search(
        rf'pcbd_dropped_connections_total{{reason="{reason}"}} ([0-9.]+)', httpx.get(f"{client.base_url}/metrics").text
    )
    return float(found[1]) if found else 0.0


def test_who_says_nothing_is_dropped(client: httpx.Client) -> None:
    with ExitStack() as stack:
        connection = connect(client, stack)
        wait_until(lambda: is_closed(connection, wait_s=0.1))
    assert dropped(client, "head") > 0


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_who_dribbles_a_head_is_dropped(client: httpx.Client, kept: bool) -> None:
    with ExitStack() as stack:
        connection = connect(client, stack)
        if kept:
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        wait_until(lambda: dribble(connection, b"X-More: y\r\n"))


def test_the_rest_of_a_body_that_was_answered_must_come_soon(client: httpx.Client) -> None:
    with ExitStack() as stack:
        connection = connect(client, stack)
        connection.sendall(
            b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
        )
        assert b" 415 " in connection.recv(10_000)
        wait_until(lambda: dribble(connection, b"x"))


def test_who_takes_nothing_of_an_answer_is_dropped(client: httpx.Client) -> None:
    before = dropped(client, "send")
    with ExitStack() as stack:
        connection = connect(client, stack, receive_bytes=4096)
        connection.setblocking(False)
        ask = b"GET /page/sample.png HTTP/1.1\r\nHost: x\r\n\r\n"

        def ask_more() -> bool:
            with suppress(BlockingIOError):
                for _ in range(100):
                    connection.send(ask)
            return dropped(client, "send") > before

        with suppress(ConnectionError):
            wait_until(ask_more)
        wait_until(lambda: dropped(client, "send") > before)


def test_somebody_who_holds_all_connections_does_not_keep_others_out(client: httpx.Client) -> None:
    with ExitStack() as stack:
        silent = [connect(client, stack) for _ in range(MAX_CONNECTIONS)]
        sending = [connect(client, stack) for _ in range(MAX_CONNECTIONS)]
        for connection in sending:
            connection.sendall(
                b"PUT /defects/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            )
        for _ in range(2 * MAX_CONNECTIONS):
            assert httpx.get(f"{client.base_url}/healthz").status_code == 200
        assert dropped(client, "crowded") > 0
        assert all(is_closed(connection) for connection in silent)


def test_those_who_come_together_wait_with_the_system_until_they_are_taken() -> None:
    with gateway(NOWHERE) as (client, process), ExitStack() as stack:
        process.send_signal(signal.SIGSTOP)
        try:
            together = [connect(client, stack) for _ in range(200)]
            for connection in together:
                connection.sendall(HEAD + b"\r\n")
        finally:
            process.send_signal(signal.SIGCONT)
        assert all(connection.recv(2**16).startswith(b"HTTP/1.1 200") for connection in together)


def test_an_answer_says_how_a_browser_may_use_it_and_nothing_of_the_server(client: httpx.Client) -> None:
    for path in ("/defects", "/nowhere", "/openapi.json"):
        headers = httpx.get(f"{client.base_url}{path}").headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in headers
        assert "Strict-Transport-Security" not in headers
        assert not any(name.lower().startswith("access-control") for name in headers)
    assert "Content-Security-Policy" not in httpx.get(f"{client.base_url}/docs").headers
    page = httpx.get(f"{client.base_url}/").headers
    assert (page["Cache-Control"], page["X-Frame-Options"]) == ("no-cache", "DENY")
