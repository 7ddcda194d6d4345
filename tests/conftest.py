"""Fixtures with the real things: the embedded Triton over the shipped repository, the gateway before it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.server import TritonServer
from gateway.up import free_port, service

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
CHECKPOINT = ROOT / "training" / "checkpoints" / "deeppcb_tiny"
BOARD = ROOT / "tests" / "data" / "board.png"


def embedded_triton(repository: Path) -> TritonServer:
    """A Triton of the test's own, on free ports."""
    return TritonServer(repository, http_port=free_port(), grpc_port=free_port(), metrics_port=free_port())


@pytest.fixture(scope="session")
def triton() -> Iterator[TritonServer]:
    """The embedded Triton, ready, serving the shipped repository."""
    with embedded_triton(REPOSITORY) as server:
        yield server


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """The base URL of the whole service, started as `make run` starts it."""
    with service(REPOSITORY, free_port(), {"PCBD_MAX_IN_FLIGHT": "64", "PCBD_DEADLINE_S": "60"}) as url:
        yield url


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ...` from the root of the repository and returns what it printed."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
