"""The Python client and `pcbd` before a gateway that requires keys."""

import asyncio
from pathlib import Path

import pytest

from gateway.access.scope import Scope
from gateway.client import Client, RefusedError
from gateway.client.access import access_options
from gateway.client.bench import Bench
from gateway.client.form import form_of
from tests.conftest import BOARD, run_module
from tests.gateway.access.conftest import Guarded

PCBD = "gateway.client.cli"


def test_the_client_sends_its_key(guarded: Guarded) -> None:
    url, key = str(guarded.client.base_url), guarded.headers[Scope.DETECT]["X-API-Key"]
    with Client(url, api_key=key) as client:
        assert len(client.defects()) == 12
    with Client(url) as client, pytest.raises(RefusedError, match="401"):
        client.defects()
    with pytest.raises(ValueError, match="printable ASCII"):
        Client(url, api_key="密钥")


def test_the_command_line_takes_the_key_from_the_environment(guarded: Guarded) -> None:
    url, key = str(guarded.client.base_url), guarded.headers[Scope.DETECT]["X-API-Key"]
    assert run_module(PCBD, "defects", "--url", url, PCBD_API_KEY=key).returncode == 0
    refused = run_module(PCBD, "defects", "--url", url)
    assert (refused.returncode, "API key" in refused.stderr) == (2, True)
    assert key not in run_module(PCBD, "defects", "--help", PCBD_API_KEY=key).stdout


def test_an_authority_of_the_environment_that_cannot_be_used_is_named(guarded: Guarded, tmp_path: Path) -> None:
    url, missing, broken = str(guarded.client.base_url), str(tmp_path / "missing.pem"), tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for file in (missing, str(broken)):
        result = run_module(PCBD, "defects", "--url", url, SSL_CERT_FILE=file)
        assert (result.returncode, f"SSL_CERT_FILE={file}" in result.stderr) == (2, True), result.stderr
        assert "Traceback" not in result.stderr


def test_a_load_is_measured_with_the_key(guarded: Guarded) -> None:
    url, key = str(guarded.client.base_url), guarded.headers[Scope.DETECT]["X-API-Key"]
    load = Bench(url, form_of([BOARD], "open", {}), 10, access_options(key, None, None))
    report = asyncio.run(load.steady(0.1, 20, lambda: None))
    assert set(report["errors"]) == {"503"}  # Triton is away; the door was open
