"""The gateway while another version is promoted behind it: requests wait a moment, none is refused."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TypeVar

import httpx
import pytest

from export.contract.tensors import MODELS, PROMPT_ENCODER
from export.repository import publish, staging_folder
from export.server import TritonServer
from export.triton.config import read_config
from tests.conftest import REPOSITORY, embedded_triton, run_module
from tests.gateway.test_failures import PICTURE, gateway, status, wait_until

CLIENTS = 3

Asked = TypeVar("Asked")


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


@contextmanager
def repeatedly(client: httpx.Client, ask: Callable[[httpx.Client], Asked]) -> Iterator[list[Asked]]:
    """While the block runs clients ask the gateway again and again: what came of it, from each at least once."""
    done, asked = Event(), list[Asked]()

    def go_on() -> None:
        with httpx.Client(base_url=client.base_url, timeout=120) as own:
            while not done.is_set():
                asked.append(ask(own))

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(go_on) for _ in range(CLIENTS)]
        try:
            wait_until(lambda: len(asked) >= CLIENTS)
            yield asked
        finally:
            done.set()
        for one in clients:
            one.result()


def detected(client: httpx.Client) -> tuple[int, str, int]:
    """Status, version and number of boxes."""
    answer = client.post("/detect", files={"image": PICTURE})
    content = answer.json()
    served = content["model"]["version"] if answer.status_code == 200 else ""
    return answer.status_code, served, len(content.get("detections", ()))


def command(repository: Path, triton: TritonServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("export.repository", *arguments, "--repository", str(repository), "--triton", triton.grpc_url)


def test_no_request_is_refused_while_another_version_is_promoted(repository: Path) -> None:
    with (
        embedded_triton(repository) as triton,
        gateway(triton.grpc_url, model_repository=str(repository), deadline_s="60", max_in_flight="8") as (client, _),
    ):
        wait_until(lambda: status(client, "/readyz") == 200)
        with repeatedly(client, detected) as asked:
            for arguments, version in ((["promote", "2"], "2"), (["rollback"], "1")):
                result = command(repository, triton, *arguments)
                assert result.returncode == 0, result.stderr
                before = len(asked)
                wait_until(lambda before=before: len(asked) >= before + 2 * CLIENTS)
                ready = client.get("/readyz")
                assert (ready.status_code, ready.json()["model"]["version"]) == (200, version)
    assert {code for code, _, _ in asked} == {200}
    assert {version for _, version, _ in asked} == {"1", "2"}
    # The threshold is that of the version that answered: nothing scores 1.0.
    assert all((boxes == 0) == (version == "2") for _, version, boxes in asked)


def test_no_request_is_lost_where_a_promotion_is_taken_back(tmp_path: Path) -> None:
    """The detector is at the new version for a moment, then at the former one again; the prompt encoder never moves."""
    repository = tmp_path / "models"
    publish_shipped(repository, "aa", 0.4)
    configs, staging = staged_shipped(repository, "bb", 0.4)
    (staging / PROMPT_ENCODER.name / "model.bin").write_bytes(b"cut off")
    publish(repository, staging, configs, {"checkpoint_name": "shipped", "checkpoint_sha256": "bb"})
    with (
        embedded_triton(repository) as triton,
        gateway(triton.grpc_url, model_repository=str(repository), deadline_s="60", max_in_flight="8") as (client, _),
    ):
        wait_until(lambda: status(client, "/readyz") == 200)
        with repeatedly(client, detected) as asked:
            assert command(repository, triton, "promote", "2").returncode == 1
            before = len(asked)
            wait_until(lambda: len(asked) >= before + 2 * CLIENTS)
    assert {(code, version) for code, version, _ in asked} == {(200, "1")}
