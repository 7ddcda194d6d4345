"""What trial 16 takes for the answer to a request."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from tests.chaos.requests import status_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\n\r\n"


@contextmanager
def answering(answer: bytes, piece_bytes: int) -> Iterator[int]:
    """The port of a server that gives one answer, piece by piece, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionError):  # the client has seen enough
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(4096)
                for start in range(0, len(answer), piece_bytes):
                    connection.sendall(answer[start : start + piece_bytes])

        served = pool.submit(serve)
        yield server.getsockname()[1]
        served.result()


@pytest.mark.parametrize("piece_bytes", [1, 30, 4096])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (ERROR, "500"),
        (CONTINUE + ERROR, "500"),
        (CONTINUE + HINTS + ERROR, "500"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
        (CONTINUE, "closed"),
        (b"", "closed"),
    ],
)
def test_an_answer_is_what_comes_after_interim_ones(answer: bytes, status: str, piece_bytes: int) -> None:
    with answering(answer, piece_bytes) as port:
        assert status_of(port, b"GET / HTTP/1.1\r\n\r\n") == status
