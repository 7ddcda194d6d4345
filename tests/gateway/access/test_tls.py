"""HTTPS with certificates made here: what is trusted, what is refused, what is said at a start that fails."""

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import trustme

from gateway.client import Client, UnreachableError
from gateway.up import free_port
from tests.conftest import ROOT, run_module
from tests.gateway.access.conftest import NOWHERE
from tests.gateway.test_failures import PATIENCE_S, wait_until


@dataclass(frozen=True)
class Files:
    """Certificates as PEM files: the authority, the gateway's, and a client's with its key."""

    ca: Path
    certificate: Path
    key: Path
    client: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make(tmp_path_factory.mktemp("tls"))


def make(folder: Path) -> Files:
    authority = trustme.CA()
    issued, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("line-3@plant.example")
    made = Files(folder / "ca.pem", folder / "gateway.pem", folder / "gateway.key", folder / "client.pem")
    authority.cert_pem.write_to_path(str(made.ca))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(made.certificate))
    issued.private_key_pem.write_to_path(str(made.key))
    client.private_key_and_cert_chain_pem.write_to_path(str(made.client))
    return made


def settings_of(files: Files) -> dict[str, str]:
    return {"PCBD_TLS_CERTIFICATE": str(files.certificate), "PCBD_TLS_KEY": str(files.key)}


@contextmanager
def https_gateway(files: Files, **more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    environment = {"PCBD_PORT": str(port), "PCBD_TRITON_URL": NOWHERE, **settings_of(files), **more}
    process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **environment})
    try:
        wait_until(lambda: listens(port))
        yield f"https://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def url(files: Files) -> Iterator[str]:
    with https_gateway(files, PCBD_HEAD_TIMEOUT_S="2", PCBD_SEND_TIMEOUT_S="2") as (url, _):
        yield url


def test_a_client_that_trusts_the_authority_is_answered(url: str, files: Files) -> None:
    with Client(url, ca=files.ca) as client:
        assert len(client.defects()) == 12
    answer = httpx.get(f"{url}/healthz", verify=ssl.create_default_context(cafile=files.ca))
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    with Client(url) as client, pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        client.defects()


def test_the_command_line_takes_the_authority(url: str, files: Files) -> None:
    told = run_module("gateway.client.cli", "defects", "--json", "--url", url, "--ca", str(files.ca))
    assert (told.returncode, '"short"' in told.stdout) == (0, True), told.stderr
    told = run_module("gateway.client.cli", "defects", "--url", url, "--ca", str(files.key))
    assert (told.returncode, "PEM" in told.stderr) == (2, True), told.stderr


def test_old_versions_of_tls_are_refused(url: str, files: Files) -> None:
    old = ssl.create_default_context(cafile=files.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", verify=old)


def test_who_connects_and_says_nothing_is_dropped_before_tls_too(url: str) -> None:
    parsed = httpx.URL(url)
    with socket.create_connection((parsed.host, parsed.port or 443), timeout=PATIENCE_S) as connection:
        assert connection.recv(1) == b""


def test_who_takes_nothing_of_an_answer_is_dropped_over_tls_too(url: str, files: Files) -> None:
    parsed, context = httpx.URL(url), ssl.create_default_context(cafile=files.ca)
    with (
        socket.create_connection((parsed.host, parsed.port or 443), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=parsed.host) as connection,
    ):
        connection.settimeout(1)

        def ask_until_closed() -> bool:
            try:
                connection.sendall(b"GET /page/sample.png HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        wait_until(ask_until_closed)
        assert 'reason="send"' in httpx.get(f"{url}/metrics", verify=context).text


def test_clients_need_a_certificate_where_their_authority_is_set(files: Files) -> None:
    with https_gateway(files, PCBD_TLS_CLIENT_CA=str(files.ca)) as (url, _):
        with Client(url, ca=files.ca, certificate=files.client) as client:
            assert len(client.defects()) == 12
        with Client(url, ca=files.ca, timeout_s=2, attempts=1) as client, pytest.raises(UnreachableError):
            client.defects()


def test_a_renewed_certificate_is_used_after_sighup(files: Files, tmp_path: Path) -> None:
    used = replace(files, certificate=tmp_path / "used.pem", key=tmp_path / "used.key")
    used.certificate.write_bytes(files.certificate.read_bytes())
    used.key.write_bytes(files.key.read_bytes())
    renewed = make(tmp_path)

    def trusted(ca: Path) -> bool:
        try:
            return httpx.get(f"{url}/healthz", verify=ssl.create_default_context(cafile=ca)).status_code == 200
        except httpx.TransportError:
            return False

    with https_gateway(used) as (url, process):
        assert trusted(files.ca)
        used.key.write_bytes(renewed.key.read_bytes())
        process.send_signal(signal.SIGHUP)  # half of it: what was used before stays
        assert trusted(files.ca)
        used.certificate.write_bytes(renewed.certificate.read_bytes())
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: trusted(renewed.ca))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PCBD_TLS_KEY": ""}, "both, or neither"),
        ({"PCBD_TLS_KEY": "/nowhere.key"}, "No such file"),
        ({"PCBD_TLS_KEY": "{client}"}, "mismatch"),
        ({"PCBD_TLS_CERTIFICATE": "{key}"}, "PEM"),
        ({"PCBD_TLS_CLIENT_CA": "{key}"}, "PCBD_TLS_CLIENT_CA"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(files: Files, change: dict[str, str], words: str) -> None:
    settings = settings_of(files) | {name: value.format(**vars(files)) for name, value in change.items()}
    ended = run_module("gateway", **settings, PCBD_PORT=str(free_port()))
    assert ended.returncode != 0
    assert words in ended.stderr
