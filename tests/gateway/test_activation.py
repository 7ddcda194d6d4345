"""Versions asked for by number, and another one put to work under load: no request is lost, none gets a mixture."""

import asyncio
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from export.contract.promotion import read_promoted
from export.contract.tensors import GENERATOR
from export.repository import promote, publish
from export.server import TritonServer
from export.triton.control import TritonControl
from gateway.admin.activation import Activation
from gateway.app import create_app
from gateway.models.served import Served
from gateway.settings import Settings
from gateway.up import free_port
from tests.conftest import embedded_triton
from tests.gateway.test_failures import PICTURE, POLL_S, gateway, status, wait_until
from tests.gateway.test_replacement import publish_shipped, repeatedly, staged_shipped

PATIENCE = httpx.Timeout(600)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2, which finds nothing, and 3, whose generator cannot be loaded; 1 is promoted."""
    models = tmp_path_factory.mktemp("activation") / "models"
    assert [publish_shipped(models, sha, least) for sha, least in (("aa", 0.4), ("bb", 1.0))] == [1, 2]
    configs, staging = staged_shipped(models, "cc", 0.4)
    (staging / GENERATOR.name / "decoder.onnx").write_text("no engine")
    assert publish(models, staging, configs, {"checkpoint_name": "shipped", "checkpoint_sha256": "cc"}) == 3
    return models


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[TritonServer]:
    with embedded_triton(repository) as server:
        yield server


@pytest.fixture(scope="module")
def client(repository: Path, server: TritonServer) -> Iterator[httpx.Client]:
    with gateway(server.grpc_url, model_repository=str(repository), deadline_s="120") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        yield client


def put_to_work(repository: Path, server: TritonServer, client: httpx.Client, version: int, *beside: int) -> None:
    promote(repository, version, TritonControl(server.grpc_url), beside)
    wait_until(lambda: client.get("/readyz").json().get("model", {}).get("version") == str(version))


def detect(client: httpx.Client, version: str | None = None, **data: str) -> httpx.Response:
    headers = {"X-Model-Version": version} if version else {}
    return client.post("/detect", files={"image": PICTURE}, data=data, headers=headers, timeout=PATIENCE)


def activate(client: httpx.Client, version: int) -> httpx.Response:
    return client.post(f"/admin/models/{version}/activate", timeout=PATIENCE)


def good(client: httpx.Client) -> tuple[str, int]:
    """Version and number of boxes of an answer, which must be a good one."""
    answer = detect(client)
    assert answer.status_code == 200, answer.text
    return answer.json()["model"]["version"], len(answer.json()["detections"])


def test_a_version_beside_the_promoted_one_answers_who_asks_for_it(
    repository: Path, server: TritonServer, client: httpx.Client
) -> None:
    put_to_work(repository, server, client, 1, 2)
    answers = [detect(client), detect(client, "2"), detect(client, "1"), detect(client, model_version="2")]
    assert [answer.json()["model"]["version"] for answer in answers] == ["1", "2", "1", "2"]
    boxes = [len(answer.json()["detections"]) for answer in answers]
    assert boxes[0] == boxes[2] > 0 == boxes[1] == boxes[3]  # each by its own threshold: nothing scores 1.0
    assert detect(client, "2", model_version="2").status_code == 200
    differing, unknown, word = detect(client, "2", model_version="1"), detect(client, "7"), detect(client, "newest")
    assert (differing.status_code, "X-Model-Version" in differing.json()["detail"]) == (422, True)
    assert (unknown.status_code, "1, 2" in unknown.json()["detail"], word.status_code) == (404, True, 422)
    lines = client.post(
        "/detect/batch", files={"image": PICTURE}, headers={"X-Model-Version": "2"}, timeout=PATIENCE
    ).json()
    assert lines["answer"]["model"]["version"] == "2"
    canary = {"canary_version": "2", "canary_share": "1.0", "watch_interval_s": "600"}
    with gateway(server.grpc_url, model_repository=str(repository), deadline_s="120", **canary) as (other, _):
        wait_until(lambda: status(other, "/readyz") == 200)
        assert [detect(other, version).json()["model"]["version"] for version in (None, "1")] == ["2", "1"]
        put_to_work(repository, server, client, 1)
        assert detect(other).json()["model"]["version"] == "1"  # the canary is gone, its requests are not
        promote(repository, 1, TritonControl(server.grpc_url), [2])
        assert detect(other, "2").status_code == 200  # it has not looked since
        put_to_work(repository, server, client, 1)
    gone = detect(client, "2")  # the gateway had a detector for it
    assert (gone.status_code, "these are: 1;" in gone.json()["detail"]) == (404, True)


def test_a_version_is_activated_under_load(repository: Path, server: TritonServer, client: httpx.Client) -> None:
    put_to_work(repository, server, client, 1)
    with gateway(server.grpc_url, model_repository=str(repository), deadline_s="120", watch_interval_s="600") as worker:
        wait_until(lambda: status(worker[0], "/readyz") == 200)
        with repeatedly(client, good) as asked:
            answer = activate(client, 2)
            assert (answer.status_code, answer.json()["version"]) == (200, "2"), answer.text
            assert detect(worker[0]).json()["model"]["version"] == "2"  # another worker, which has not looked since
            assert detect(client).json()["model"]["version"] == "2"
    assert {version for version, _ in asked} == {"1", "2"}
    assert all((boxes == 0) == (version == "2") for version, boxes in asked)
    assert TritonControl(server.grpc_url).loaded() == {
        name: {2} for name in ("detector", "prompt_encoder", "generator")
    }
    listed = client.get("/admin/models").json()["versions"]
    assert [(row["promoted"], row["served"], row["active"]) for row in listed] == [
        (False, False, False),
        (True, True, True),
        (False, False, False),
    ]


def test_a_version_that_cannot_be_loaded_leaves_everything_as_before(
    repository: Path, server: TritonServer, client: httpx.Client
) -> None:
    put_to_work(repository, server, client, 1)
    before = read_promoted(repository)
    with repeatedly(client, good) as asked:
        refused = activate(client, 3)
    assert (refused.status_code, "version 1 is in use as before" in refused.json()["detail"]) == (502, True)
    assert {version for version, _ in asked} == {"1"}
    assert read_promoted(repository) == before
    assert TritonControl(server.grpc_url).loaded() == {
        name: {1} for name in ("detector", "prompt_encoder", "generator")
    }
    assert client.post("/admin/models/newest/activate").status_code == 404
    missing = activate(client, 7)
    assert (missing.status_code, "1, 2, 3" in missing.json()["detail"]) == (404, True)


def test_a_triton_that_does_not_answer_for_a_moment_undoes_no_promotion(
    repository: Path, server: TritonServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_to_work(repository, server, client, 1)
    load_all = Activation._load_all

    async def load_all_and_stop(activation: Activation) -> None:
        await load_all(activation)
        server.signal(signal.SIGSTOP)

    monkeypatch.setattr(Activation, "_load_all", load_all_and_stop)
    settings = Settings(triton_url=server.grpc_url, model_repository=repository, deadline_s=120, watch_interval_s=600)

    async def activated() -> Served:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            watch = app.state.service.watch
            await watch.look()
            activating = asyncio.create_task(app.state.activation.activate(2))
            while watch.circuit.state == "closed" and not activating.done():
                await asyncio.sleep(POLL_S)
            server.signal(signal.SIGCONT)
            return await activating

    try:
        assert asyncio.run(activated()).version == "2"
    finally:
        server.signal(signal.SIGCONT)
    assert read_promoted(repository)[-1] == 2


def test_of_two_activations_at_once_one_is_refused(
    repository: Path, server: TritonServer, client: httpx.Client
) -> None:
    put_to_work(repository, server, client, 1)
    with ThreadPoolExecutor(2) as pool:
        codes = [answer.status_code for answer in pool.map(lambda _: activate(client, 2), range(2))]
    assert sorted(codes) == [200, 409]


def test_a_triton_that_cannot_be_told_is_named_with_the_command(repository: Path) -> None:
    promote(repository, 1)
    options = ["--model-control-mode=none"]
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    with (
        TritonServer(repository, options=options, **ports) as server,
        gateway(server.grpc_url, model_repository=str(repository)) as (client, _),
    ):
        wait_until(lambda: status(client, "/readyz") == 200)
        refused = activate(client, 2)
    assert refused.status_code == 409
    assert (
        f"export.repository promote 2 --repository {repository} --triton {server.grpc_url}" in refused.json()["detail"]
    )
    assert read_promoted(repository)[-1] == 1
