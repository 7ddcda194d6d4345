"""What a whole gateway writes: every line is a record, from whichever library it comes."""

import json
import logging
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import httpx
import pytest

from gateway.telemetry.logs import configure_logs
from gateway.up import free_port
from tests.conftest import ROOT
from tests.gateway.test_failures import PATIENCE_S, status, wait_until


def test_every_line_of_a_gateway_is_json(tmp_path: Path) -> None:
    settings = {
        "PCBD_PORT": str(free_port()),
        "PCBD_TRITON_URL": f"127.0.0.1:{free_port()}",
        "PCBD_DATABASE_URL": f"sqlite:///{tmp_path}/gateway.db",
        "PCBD_WORKERS": "2",
        "PCBD_DRAIN_S": "0",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **settings}, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings['PCBD_PORT']}", timeout=PATIENCE_S) as client:
            wait_until(lambda: status(client, "/healthz") == 200)
            assert client.get("/defects").status_code == 200
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"gateway.workers", "gateway.access", "uvicorn.error", "alembic.runtime.migration"} <= {
        record["logger"] for record in records
    }
    for record in records:
        assert {"timestamp", "level", "logger", "pid", "message"} <= record.keys()
    assert sum(record["logger"] == "gateway.access" for record in records) == 1


def test_a_level_bounds_what_is_logged(log_lines: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log_lines)
    configure_logs("WARNING", "json")
    logging.getLogger("elsewhere").info("chatter")
    logging.getLogger("elsewhere").error("half a pair \ud800, \x85 and \u2028 板")
    (line,) = log_lines.getvalue().splitlines()
    assert json.loads(line)["message"] == "half a pair \ud800, \x85 and \u2028 板"
    assert "板" in line
