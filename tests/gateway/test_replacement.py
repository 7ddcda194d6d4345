"""The gateway while another version is promoted behind it: requests wait a moment, none is refused."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from export.contract.tensors import MODELS
from export.repository import publish, staging_folder
from export.server import TritonServer
from export.triton.config import read_config
from tests.conftest import REPOSITORY, embedded_triton, run_module
from tests.gateway.test_failures import PICTURE, gateway, status, wait_until

CLIENTS = 3


def staged_shipped(repository: Path, sha256: str, threshold: float) -> tuple[dict[str, str], Path]:
    """The shipped engines once more, as those of a checkpoint with another hash and threshold, ready to publish."""
    staging = staging_folder(repository)
    configs = {}
    for spec in MODELS:
        newest = max((REPOSITORY / spec.name).glob("[0-9]*"), key=lambda folder: int(folder.name))
        ignore = shutil.ignore_patterns("manifest.json", "__pycache__")
        shutil.copytree(newest, staging / spec.name, dirs_exist_ok=True, ignore=ignore)
        config = read_config((REPOSITORY / spec.name / "config.pbtxt").read_text())
        config.parameters["checkpoint_sha256"].string_value = sha256
        config.parameters["score_thresholds"].string_value = json.dumps({"default": threshold})
        configs[spec.name] = str(config)
    return configs, staging


def publish_shipped(repository: Path, sha256: str, threshold: float) -> int:
    configs, staging = staged_shipped(repository, sha256, threshold)
    return publish(repository, staging, configs, {"checkpoint_name": "shipped", "checkpoint_sha256": sha256})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    assert [publish_shipped(tmp_path / "models", sha, least) for sha, least in (("aa", 0.4), ("bb", 1.0))] == [1, 2]
    return tmp_path / "models"


def test_no_request_is_refused_while_another_version_is_promoted(repository: Path) -> None:
    done = Event()
    asked: list[tuple[int, str, int]] = []  # status, version, boxes

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not done.is_set():
                answer = client.post("/detect", files={"image": PICTURE})
                content = answer.json()
                asked.append((answer.status_code, content["model"]["version"], len(content["detections"])))

    def command(triton: TritonServer, *arguments: str) -> None:
        result = run_module(
            "export.repository", *arguments, "--repository", str(repository), "--triton", triton.grpc_url
        )
        assert result.returncode == 0, result.stderr

    with (
        embedded_triton(repository) as triton,
        gateway(triton.grpc_url, model_repository=str(repository), deadline_s="60", max_in_flight="8") as (client, _),
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        wait_until(lambda: status(client, "/readyz") == 200)
        clients = [pool.submit(ask, str(client.base_url)) for _ in range(CLIENTS)]
        try:
            wait_until(lambda: len(asked) >= CLIENTS)
            for arguments, version in ((["promote", "2"], "2"), (["rollback"], "1")):
                command(triton, *arguments)
                before = len(asked)
                wait_until(lambda before=before: len(asked) >= before + 2 * CLIENTS)
                ready = client.get("/readyz")
                assert (ready.status_code, ready.json()["model"]["version"]) == (200, version)
        finally:
            done.set()
        for one in clients:
            one.result()
    assert {code for code, _, _ in asked} == {200}
    assert {version for _, version, _ in asked} == {"1", "2"}
    # The threshold is that of the version that answered: nothing scores 1.0.
    assert all((boxes == 0) == (version == "2") for _, version, boxes in asked)
