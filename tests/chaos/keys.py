"""Trial 14: attempts at the key, and addresses in every field: none gets in or is fetched, no secret is told."""

import base64
import secrets
import socket
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import httpx
import psutil

from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from tests.chaos.grounds import Gateway, Grounds
from tests.chaos.load import tile
from tests.chaos.trial import Outcome, Scale

ROUTES = (
    ("POST", "/detect"),
    ("GET", "/defects"),
    ("GET", "/inspections"),
    ("GET", "/admin/models"),
    ("GET", "/metrics"),
)


def keys(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """200 attempts, 40 addresses."""
    del scale
    with grounds.gateway(api_keys="required", metrics_protected="true") as gateway:
        database = Database(gateway.settings["database_url"])
        store = KeyStore(database)
        _, key = store.create("line-3", frozenset(Scope), None)
        database.close()
        guesses = _guesses(key)
        statuses = [
            gateway.client.request(method, path, headers=headers, params=query).status_code
            for (method, path), (headers, query) in zip(cycle(ROUTES), guesses, strict=False)
        ]
        outcome.note("attempts", len(statuses))
        outcome.same("answers_to_attempts", sorted(set(statuses)), [401])
        right = {"X-API-Key": key}
        outcome.same("answer_to_the_key", gateway.client.get("/defects", headers=right).status_code, 200)
        with _listener() as (address, connected):
            told = _send_addresses(gateway, address, right)
            outcome.same("connections_to_the_address", len(connected()), 0)
        outcome.note("addresses_sent", len(told))
        outcome.same("answers_to_addresses_above_499", [status for status in told if status >= 500], [])
        others = {
            connection.raddr.port
            for connection in psutil.Process(gateway.process.pid).net_connections("inet")
            if connection.raddr and connection.laddr.port != gateway.port
        }
        outcome.same("connects_to", sorted(others), [int(grounds.triton.url.rpartition(":")[2])])
        log = gateway.log.read_text()
        secret = key.rpartition("_")[2]
        outcome.same("secret_in_log", secret in log, False)
        sent = [value for headers, _ in guesses for value in headers.values() if len(value) > 30]
        outcome.same("attempts_in_log", sum(value in log for value in sent), 0)


def _guesses(key: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Headers and queries, 200 of them; none has the key where it belongs."""
    prefix, key_id, secret = key.split("_")
    changed = [
        secret[:place] + ("0" if secret[place] != "0" else "1") + secret[place + 1 :] for place in range(len(secret))
    ]
    values = [f"{prefix}_{key_id}_{other}" for other in changed]
    values += [f"{prefix}_{key_id}_{secrets.token_hex(len(secret) // 2)}" for _ in range(60)]
    values += [f"{prefix}_{secrets.token_hex(len(key_id) // 2)}_{secret}" for _ in range(20)]
    values += ["", "null", "admin", prefix, key[:-1], key + "0", key.upper(), key.replace("_", "-"), key * 2]
    values += [f"{prefix}_{key_id}_", f"{prefix}__{secret}", f"_{key_id}_{secret}", f"{key_id}_{secret}", secret]
    values += [f"{prefix}_{key_id}_{secret}%00", f"{key},{key}", f'"{key}"', f"{prefix}_%_{secret}", "' OR '1'='1"]
    found: list[tuple[dict[str, str], dict[str, str]]] = [({"X-API-Key": value}, {}) for value in values]
    found += [
        ({}, {}),
        ({}, {"api_key": key}),
        ({}, {"X-API-Key": key}),
        ({"Cookie": f"key={key}"}, {}),
        ({"Authorization": key}, {}),
        ({"Authorization": f"Basic {base64.b64encode(f'line-3:{key}'.encode()).decode()}"}, {}),
        ({"Authorization": f"Digest {key}"}, {}),
        ({"Authorization": f"Bearer{key}"}, {}),
        ({"X-Api-Key-": key}, {}),
        ({"X-Forwarded-For": "127.0.0.1"}, {}),
        ({"X-Original-URL": "/healthz"}, {}),
        ({"X-HTTP-Method-Override": "HEAD"}, {}),
    ]
    letters = cycle(string.ascii_letters)
    found += [({"Authorization": f"Bearer {''.join(islice(letters, length))}"}, {}) for length in range(40, 64)]
    return found[:200]


@contextmanager
def _listener() -> Iterator[tuple[str, Callable[[], list[socket.socket]]]]:
    """An address, and the connections that came to it."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.setblocking(False)

        def connected() -> list[socket.socket]:
            found = []
            while True:
                try:
                    found.append(server.accept()[0])
                except BlockingIOError:
                    return found

        yield f"127.0.0.1:{server.getsockname()[1]}", connected


def _send_addresses(gateway: Gateway, address: str, headers: dict[str, str]) -> list[int]:
    """Eight forms of an address in five places."""
    urls = [f"{scheme}://{address}/board.png" for scheme in ("http", "https", "ftp", "gopher", "ws")]
    urls += [f"//{address}/board.png", f"file://{address}/etc/passwd", f"jar:http://{address}!/board.png"]
    found = []
    for url in urls:
        requests: list[httpx.Response] = [
            gateway.client.post("/detect", files={"image": url.encode()}, headers=headers),
            gateway.client.post("/detect", json={"image": url}, headers=headers),
            gateway.client.post("/detect", files={"image": tile()}, data={"prompt": url}, headers=headers),
            gateway.client.post("/detect", files={"image": tile()}, data={"board_id": url}, headers=headers),
            gateway.client.put(
                "/defects/glue",
                json={"names": {"en": ["glue"]}, "descriptions": {"en": [url]}},
                headers={**headers, "X-Actor": url, "Referer": url, "Origin": str(gateway.client.base_url)},
            ),
        ]
        found += [answer.status_code for answer in requests]
    return found
