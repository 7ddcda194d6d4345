"""`python -m gateway.access`, as an operator runs it."""

import re
from pathlib import Path

from gateway.access.key import split
from gateway.access.store import KeyStore
from gateway.database import Database
from tests.conftest import run_module

MODULE = "gateway.access"


def test_a_key_is_made_listed_and_revoked(database_url: str) -> None:
    made = run_module(
        MODULE,
        *("create", "--name", "三号线", "--scope", "detect", "--scope", "catalog", "--expires", "30"),
        PCBD_DATABASE_URL=database_url,
    )
    assert made.returncode == 0, made.stderr
    sent = made.stdout.strip()  # nothing else, so that a script can take it
    parts = split(sent)
    assert parts is not None
    key_id, secret = parts
    listed = run_module(MODULE, "list", "--database-url", database_url).stdout
    assert re.search(rf"^{key_id}  三号线  catalog,detect  made .* UTC  expires .* UTC$", listed, re.MULTILINE)
    assert secret not in listed
    assert run_module(MODULE, "revoke", key_id, PCBD_DATABASE_URL=database_url).returncode == 0
    assert run_module(MODULE, "list", PCBD_DATABASE_URL=database_url).stdout == ""
    again = run_module(MODULE, "revoke", key_id, PCBD_DATABASE_URL=database_url)
    assert (again.returncode, key_id in again.stderr) == (1, True)


def test_the_secret_is_not_in_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    sent = run_module(MODULE, "create", "--name", "x", "--scope", "admin", "--database-url", url).stdout.strip()
    parts = split(sent)
    assert parts is not None
    database = Database(url)
    assert KeyStore(database).load()[parts[0]].fits(parts[1])
    database.close()
    assert not any(parts[1].encode() in file.read_bytes() for file in tmp_path.iterdir())


def test_what_cannot_be_made_is_explained(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    for name, more, words in (
        ("a: b", [], "':'"),
        ("x" * 33, [], "32"),
        ("x", ["--expires", "0"], "0 days"),
        ("x", ["--expires", "9999999"], "9999999 days"),
        ("x", ["--expires", "99999999999"], "99999999999 days"),
    ):
        result = run_module(MODULE, "create", "--name", name, "--scope", "detect", *more, "--database-url", url)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        assert "Traceback" not in result.stderr
