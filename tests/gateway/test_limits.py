"""Requests of more parts, headers or depth than any honest one has, each refused with its status."""

import socket
from typing import Any

import httpx
import pytest

from tests.conftest import BOARD

PICTURE = BOARD.read_bytes()
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def part(headers: str, content: str = "open") -> str:
    return f"--x\r\n{headers}\r\n\r\n{content}\r\n"


PROMPT = 'Content-Disposition: form-data; name="prompt"'
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "fields": ({"files": {"image": PICTURE}, "data": {"prompt": ["x"] * 201}}, 400),
    "a long field": ({"files": {"image": PICTURE}, "data": {"prompt": "x" * 70_000}}, 400),
    "a long header of a part": ({"content": part(PROMPT + "; x=" + "y" * 5000) + "--x--", "headers": FORM}, 400),
    "headers of a part": ({"content": part(PROMPT + "\r\nX: y" * 9) + "--x--", "headers": FORM}, 400),
    "a long boundary": (
        {"content": b"", "headers": {"Content-Type": f"multipart/form-data; boundary={'x' * 3000}"}},
        400,
    ),
    "values": ({"json": {"image": "", "prompt": [""] * 100_001}}, 413),
    "depth": (
        {
            "content": '{"image": "", "prompt": ' + "[" * 300 + "]" * 300 + "}",
            "headers": {"Content-Type": "application/json"},
        },
        400,
    ),
    "parameters in the query": (
        {"content": PICTURE, "headers": {"Content-Type": "image/png"}, "params": {"prompt": ["x"] * 65}},
        422,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_more_than_any_honest_request_has_is_refused(gateway_url: str, name: str) -> None:
    request, code = CASES[name]
    answer = httpx.post(f"{gateway_url}/detect", timeout=60, **request)
    assert answer.status_code == code, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_headers_beyond_the_limit_close_the_connection(gateway_url: str) -> None:
    url = httpx.URL(gateway_url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Much: " + b"x" * 70_000)
        answer = connection.recv(1024)
        while more := connection.recv(1024):
            answer += more
    assert answer.startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{gateway_url}/healthz").status_code == 200
