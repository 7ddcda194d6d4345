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
CHECKPOINT = ROOT / "training" / "checkpoints" / "pcb_twelve"
BOARD = ROOT / "tests" / "data" / "board.png"


@pytest.fixture(scope="session", autouse=True)
def own_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A database of the tests' own behind every gateway that they start, unless a test gives it another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCBD_DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('database')}/gateway.db")
        yield


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
    settings = {"PCBD_MAX_IN_FLIGHT": "64", "PCBD_DEADLINE_S": "60", "PCBD_DRAIN_S": "0"}
    with service(REPOSITORY, free_port(), settings) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised checkpoint of another shape than the shipped one."""
    import torch

    from training.config import ModelConfig
    from training.network.building import add_fine_tokens, build_network
    from training.network.checkpoint import save_checkpoint
    from training.network.tokenizer import train_tokenizer
    from training.prompts import corpus

    torch.manual_seed(0)
    tokenizer = train_tokenizer(corpus(), 600)
    shape = ModelConfig(
        text_vocab=600,
        vision_widths=(16, 32),
        vision_depths=(0, 1),
        vision_heads=(1, 2),
        patch_sizes=(7, 3),
        patch_strides=(8, 2),
        window_size=4,
        width=64,
        layers=1,
        heads=2,
        ffn=128,
        tile_size=128,
        boxes_per_tile=20,
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    manifest = {"name": "tiny", "defects": ["open", "short"], "score_threshold": 0.25}
    network = build_network(shape, tokenizer).eval()
    add_fine_tokens(network)
    assert network.grounding.fine is not None
    for layer in (network.grounding.fine.early_projection, network.grounding.fine.reduce):
        torch.nn.init.normal_(layer.weight, std=0.02)  # copies would tie, and which wins is any engine's own choice
    save_checkpoint(folder, network, tokenizer, manifest, log="")
    return folder


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
