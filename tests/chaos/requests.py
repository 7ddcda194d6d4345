"""Trial 16: damaged requests, byte for byte over a socket: each gets an answer of its own or an end, never a 5xx."""

import collections
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from tests.chaos.grounds import Grounds
from tests.chaos.load import tile
from tests.chaos.peak import forget_peak, peak_rss_bytes
from tests.chaos.trial import Outcome, Scale

CLIENTS = 32  # as many wait for what is missing of a request, until the gateway gives up
PATIENCE_S = 20.0
INTERIM = re.compile(rb"HTTP/\S+ 1(?!01)\d\d .*?\r\n\r\n", re.DOTALL)  # 101 is an answer
FINAL = re.compile(rb"HTTP/\S+ ([2-9]\d\d|101) ")
DICTIONARY = (
    b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"%00", b"--x", b"--x--", b"chunked", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Host: y\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 300, b'{"a":' * 50,
    b"9" * 400, b"1e999", b"NaN", b"null", b"../", b"charset=utf-7", b"Idempotency-Key: a\r\n",
    b"X-Request-Timeout-Ms: 1000\r\n", b"Range: bytes=0-1\r\n", b"Accept: image/png\r\n", b"If-Match: \"1\"\r\n",
)  # fmt: skip


def requests(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """5,000 of them; the gateway is as before when they are over."""
    number = scale.number(5_000, 200)
    gateway = grounds.impatient
    originals = _originals(gateway.url)
    forget_peak(gateway.process.pid)

    def ask(which: int) -> tuple[str, float]:
        began = time.monotonic()
        return status_of(gateway.port, _mutant(originals, which)), time.monotonic() - began

    with grounds.delayed(0), ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(number)))
    outcome.same("healthy", gateway.status("/readyz"), 200)
    outcome.most("gateway_peak_rss_mb", peak_rss_bytes(gateway.process.pid) / 1e6, 512)
    outcome.note("sent", number)
    outcome.note("answers", dict(collections.Counter(status for status, _ in answers)))
    outcome.same("answers_above_499", {n: s for n, (s, _) in enumerate(answers) if s.startswith("5")}, {})
    outcome.same("no_answer", [n for n, (s, _) in enumerate(answers) if s == "none"], [])
    outcome.quick("slowest_s", max(seconds for _, seconds in answers), 12)


def _originals(url: str) -> list[bytes]:
    """Whole requests of every kind."""
    picture = tile()
    odd = {"prompt": ["short", "寻找断路"], "score_threshold": "0.3", "regions": "[[0, 0, 90, 90]]", "board_id": "B"}
    defect = {"names": {"en": ["glue"]}, "descriptions": {"zh": ["红胶"]}, "severity": "minor"}
    feedback = {"request_id": "x", "detections": [], "complete": True, "missed": []}
    yaml = {"Content-Type": "application/yaml"}
    with httpx.Client(base_url=url) as client:
        made = [
            client.build_request("POST", "/detect", files={"image": picture}, data=odd),
            client.build_request("POST", "/detect", json={"image": "", "prompt": "short", "max_detections": 5}),
            client.build_request(
                "POST", "/detect?prompt=short", content=picture, headers={"Content-Type": "image/jpeg"}
            ),
            client.build_request("POST", "/detect/batch", files=[("image", picture)] * 2, data={"prompt": "short"}),
            client.build_request("PUT", "/defects/glue", json=defect),
            client.build_request("PATCH", "/defects/glue", content=json.dumps({"severity": None}), headers=yaml),
            client.build_request("PUT", "/defects", content=b"defects: []", headers=yaml),
            client.build_request("GET", "/defects/glue/history"),
            client.build_request("POST", "/feedback", json=feedback),
            client.build_request("GET", "/inspections?limit=5"),
            client.build_request("GET", "/metrics"),
        ]
    return [_bytes(request) for request in made]


def _bytes(request: httpx.Request) -> bytes:
    head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n".encode()
    head += b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw)
    return head + b"\r\n" + request.read()


def _mutant(originals: list[bytes], number: int) -> bytes:
    """The same for the same number."""
    rng = np.random.default_rng(number)
    head, _, body = originals[number % len(originals)].partition(b"\r\n\r\n")
    if body and rng.integers(3):  # an honest head, so that the body is read
        body = _damaged(body, rng)
        return re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % len(body), head) + b"\r\n\r\n" + body
    return _damaged(head, rng) + b"\r\n\r\n" + body


def _damaged(original: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(original)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 33))
        match int(rng.integers(6)):
            case 0:
                data[place : place + 1] = bytes([int(rng.integers(256))])
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case 3:
                data[place:place] = DICTIONARY[int(rng.integers(len(DICTIONARY)))]
            case 4:  # as a line of its own in the head
                line = data.find(b"\r\n") + 2
                data[line:line] = DICTIONARY[int(rng.integers(len(DICTIONARY)))]
            case _:
                del data[int(rng.integers(len(data) + 1)) :]
    return bytes(data)


def status_of(port: int, data: bytes) -> str:
    """Of the answer; "closed" where there was none, "none" where nothing came at all."""
    received, status = b"", None
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            while status is None and (more := connection.recv(4096)):
                received += more
                status = _final(received)
    except TimeoutError:
        return "none"
    except OSError:
        pass
    return status or "closed"


def _final(received: bytes) -> str | None:
    """The status of the first answer that is more than '100 Continue' and its like; None as long as there is none."""
    while interim := INTERIM.match(received):
        received = received[interim.end() :]
    found = FINAL.match(received)
    return found[1].decode() if found else None
