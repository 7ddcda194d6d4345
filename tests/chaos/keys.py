"""Trial 14: attempts at the key, and addresses in every field: none gets in or is fetched, no secret is told."""

import base64
import secrets
import string
from collections import Counter
from itertools import cycle, islice

import psutil

from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from tests.chaos.addresses import listener, send_addresses
from tests.chaos.grounds import Grounds
from tests.chaos.trial import Outcome, Scale

ATTEMPTS = 200

ROUTES = (
    ("POST", "/detect"),
    ("GET", "/defects"),
    ("GET", "/inspections"),
    ("GET", "/admin/models"),
    ("GET", "/metrics"),
)


def keys(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """200 attempts; eight forms of an address."""
    with grounds.delayed(0), grounds.gateway(api_keys="required", metrics_protected="true") as gateway:
        database = Database(gateway.settings["database_url"])
        store = KeyStore(database)
        _, key = store.create("line-3", frozenset(Scope), None)
        database.close()
        guesses = _guesses(key)
        statuses = [
            gateway.client.request(method, path, headers=headers, params=query).status_code
            for (method, path), (headers, query) in zip(cycle(ROUTES), guesses, strict=False)
        ]
        outcome.same("attempts", len(statuses), ATTEMPTS)
        outcome.same("answers_to_attempts", sorted(set(statuses)), [401])
        right = {"X-API-Key": key}
        outcome.same("answer_to_the_key", gateway.client.get("/defects", headers=right).status_code, 200)
        with listener() as (address, connected):
            told = send_addresses(gateway, address, right, scale.number(8, 2))
            outcome.same("connections_to_the_address", connected(), 0)
        outcome.note("addresses_sent", len(told))
        outcome.note("answers_to_addresses", dict(Counter(status for _, status in told)))
        outcome.same("answers_to_addresses_above_499", [fault for fault, status in told if status >= 500], [])
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
    """Headers and queries, ATTEMPTS of them; none has the key where it belongs."""
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
    found += [({"Authorization": f"Bearer {''.join(islice(letters, length))}"}, {}) for length in range(40, 65)]
    return found
