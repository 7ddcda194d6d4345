"""The real Triton under a load of requests while its models are replaced: none is lost, none gets a mixture."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tritonclient.grpc import InferenceServerClient, InferInput

from export.build import build
from export.contract.files import sha256_of
from export.contract.promotion import RepositoryError, read_promoted
from export.contract.tensors import DETECTOR, MODELS
from export.contract.versions import published
from export.graphs.checkpoint import load_checkpoint
from export.repository import describe, promote, prune, publish, rollback, staging_folder
from export.runtime.engine import load_engine
from export.server import TritonServer
from export.triton import control as control_module
from export.triton.control import LOAD_TIMEOUT_S, NOT_EXPLICIT, POLL_TIMEOUT_S, Index, TritonControl
from gateway.up import free_port
from tests.conftest import BOARD, embedded_triton, run_module

CLIENTS = 4
ANSWERS = 3  # from each client before the next change, so that every state is seen under load

rng = np.random.default_rng(0)
EMBEDDINGS = rng.normal(size=(1, 16, 64)).astype(np.float32)
INPUTS = {
    "IMAGE": rng.integers(0, 256, (1, 128, 128, 3), dtype=np.uint8),
    "PROMPT_EMBEDDINGS": EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=2, keepdims=True),
}


def scale_weights(graph: Path, factor: float) -> None:
    model = onnx.load(graph)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim > 1:
            weight.CopyFrom(numpy_helper.from_array(values * np.float32(factor), weight.name))
    onnx.save(model, graph)


def publish_changed(repository: Path, change: str, factor: float = 1.0) -> int:
    """Publishes version 1 once more: with other weights in the detector, or broken in the last model."""
    staging = staging_folder(repository)
    for spec in MODELS:
        former = repository / spec.name / "1"
        shutil.copytree(
            former,
            staging / spec.name,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("manifest.json", "__pycache__"),
        )
    if change == "weights":
        scale_weights(staging / DETECTOR.name / "model.onnx", factor)
    else:
        for engine in (staging / MODELS[-1].name).glob("*.onnx"):
            engine.write_bytes(b"no engine")
    configs = {spec.name: (staging / spec.name / "config.pbtxt").read_text() for spec in MODELS}
    return publish(repository, staging, configs, {"checkpoint_name": change})


@pytest.fixture(scope="module")
def repository(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions whose detectors have different weights; the first is served."""
    out = tmp_path_factory.mktemp("replacement") / "models"
    build(load_checkpoint(tiny_checkpoint), "fp32", "onnxruntime", out, BOARD.parent, out.parent / "report.json")
    assert [publish_changed(out, "weights", factor) for factor in (1.05, 0.95)] == [2, 3]
    return out


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[TritonServer]:
    with embedded_triton(repository) as server:
        yield server


class Load:
    """Clients that ask the detector without a pause; a request that fails ends the test."""

    def __init__(self, url: str, expected: dict[int, NDArray[np.float32]]) -> None:
        self._url, self._expected = url, expected
        self._stopping = threading.Event()
        self._answered = threading.Condition()
        self._counts = [0] * CLIENTS
        self.versions: list[int] = []

    def run(self, client: int) -> None:
        """One client's requests."""
        try:
            with InferenceServerClient(self._url) as connection:
                tensors = []
                for tensor in DETECTOR.inputs:
                    tensors.append(InferInput(tensor.name, list(INPUTS[tensor.name].shape), tensor.dtype))
                    tensors[-1].set_data_from_numpy(INPUTS[tensor.name])
                while not self._stopping.is_set():
                    result = connection.infer(DETECTOR.name, tensors, client_timeout=120)
                    version = int(result.get_response().model_version)
                    np.testing.assert_allclose(result.as_numpy("SCORES"), self._expected[version], atol=1e-4)
                    with self._answered:
                        self._counts[client] += 1
                        self.versions.append(version)
                        self._answered.notify_all()
        finally:
            self._stopping.set()
            with self._answered:
                self._answered.notify_all()

    def go_on(self) -> None:
        """Waits until each client got ANSWERS more."""
        with self._answered:
            goal = [count + ANSWERS for count in self._counts]
            self._answered.wait_for(
                lambda: self._stopping.is_set() or all(a >= b for a, b in zip(self._counts, goal, strict=True))
            )

    def stop(self) -> None:
        self._stopping.set()


@contextmanager
def under_load(server: TritonServer, repository: Path) -> Iterator[Load]:
    expected = {
        number: load_engine(repository / DETECTOR.name / str(number)).run(INPUTS)["SCORES"]
        for number in published(repository)
    }
    load = Load(server.grpc_url, expected)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients: list[Future[None]] = [pool.submit(load.run, client) for client in range(CLIENTS)]
        try:
            load.go_on()
            yield load
            load.go_on()
        finally:
            load.stop()
        for client in clients:
            client.result()  # raises what a client met


def test_no_request_is_lost_while_versions_are_promoted_returned_and_pruned(
    server: TritonServer, repository: Path
) -> None:
    control = TritonControl(server.grpc_url)
    with under_load(server, repository) as load:
        command = run_module(
            "export.repository", "promote", "2", "--repository", str(repository), "--triton", server.grpc_url
        )
        assert command.returncode == 0, command.stderr
        load.go_on()
        assert server.is_ready()
        assert rollback(repository, control) == 1
        load.go_on()
        promote(repository, 3, control)
        load.go_on()
        assert prune(repository, 1, control) == [2]
    order = [load.versions[0], *(b for a, b in zip(load.versions, load.versions[1:], strict=False) if a != b)]
    assert set(order) == {1, 2, 3}
    assert load.versions[-1] == 3
    assert control.loaded() == {spec.name: {3} for spec in MODELS}
    assert {row.version: row.loaded for row in describe(repository, control)} == {
        1: (),
        3: tuple(spec.name for spec in MODELS),
    }


def test_a_version_that_cannot_be_loaded_leaves_the_former_served(server: TritonServer, repository: Path) -> None:
    control = TritonControl(server.grpc_url)
    before = read_promoted(repository)
    broken = publish_changed(repository, "broken")
    with (
        under_load(server, repository),
        pytest.raises(RepositoryError, match=rf"(?s)version {broken} is not served.*{MODELS[-1].name}.*as before"),
    ):
        promote(repository, broken, control)
    assert read_promoted(repository) == before
    assert control.loaded() == {spec.name: {before[-1]} for spec in MODELS}


@pytest.fixture(scope="module")
def polling(repository: Path) -> Iterator[TritonControl]:
    """Of a Triton that looks by itself; version 3 was promoted before it started."""
    options = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    promote(repository, 3)
    with TritonServer(
        repository, http_port=free_port(), grpc_port=free_port(), metrics_port=free_port(), options=options
    ) as server:
        yield TritonControl(server.grpc_url)


def test_a_triton_that_looks_by_itself_is_waited_for(polling: TritonControl, repository: Path) -> None:
    promote(repository, 1, polling)
    assert polling.loaded() == {spec.name: {1} for spec in MODELS}
    assert rollback(repository, polling) == 3
    assert polling.loaded() == {spec.name: {3} for spec in MODELS}


STUBBORN = """import os

from export.runtime.backend import TritonPythonModel as Model


class TritonPythonModel(Model):
    def initialize(self, args):
        open({gate!r}).close()
        if os.path.exists({fault!r}):
            raise RuntimeError("no boards today")
        super().initialize(args)
"""


def publish_stubborn(repository: Path, gate: Path = Path(os.devnull), fault: Path = Path("nowhere")) -> int:
    """Version 1 once more, whose last model waits at a pipe when it loads, and fails where a file is."""
    number = publish_changed(repository, "weights")
    folder = repository / MODELS[-1].name / str(number)
    (folder / "model.py").write_text(STUBBORN.format(gate=str(gate), fault=str(fault)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.py"] = sha256_of(folder / "model.py")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return number


class Gate:
    """A pipe that a model waits at until it is opened; a context manager that opens it at the latest."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path, self._writer = path, -1

    @property
    def is_open(self) -> bool:
        return self._writer >= 0

    def open(self) -> None:
        if not self.is_open:
            self._writer = os.open(self.path, os.O_RDWR)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self.path.unlink()
        os.close(self._writer)


class Clock:
    """The time of who waits for Triton: at each pause it goes on by as much as `pass_s` says."""

    def __init__(self, pass_s: Callable[[], float]) -> None:
        self._now_s, self._pass_s = 0.0, pass_s

    def monotonic(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        self._now_s += self._pass_s()


def loading(index: Index) -> set[int]:
    return {number for states in index.values() for number, (state, _) in states.items() if state == "LOADING"}


def stating(**states: int) -> Index:
    """What Triton would say of all models, by state the version in it."""
    return {spec.name: {number: (state, "") for state, number in states.items()} for spec in MODELS}


def scripted(
    monkeypatch: pytest.MonkeyPatch, looks: Sequence[Index | RepositoryError], refusal: str | None = NOT_EXPLICIT
) -> TritonControl:
    """Of a Triton that is not there: what it says when it is told to load a model, and what each look at it finds."""
    control = TritonControl("nowhere")
    monkeypatch.setattr(control, "_load", lambda client, model: (model, refusal))
    monkeypatch.setattr(control, "_index", Mock(side_effect=looks))
    return control


def test_why_a_triton_that_looks_by_itself_refuses_a_version_is_said_at_once(
    polling: TritonControl, repository: Path, tmp_path: Path
) -> None:
    promote(repository, 3, polling)
    fault = tmp_path / "fault"
    fault.touch()
    refused = publish_stubborn(repository, fault=fault)
    with pytest.raises(
        RepositoryError, match=rf"{MODELS[-1].name} {refused}: .*no boards today.*at version 3 as before"
    ):
        promote(repository, refused, polling)
    assert polling.loaded() == {spec.name: {3} for spec in MODELS}
    fault.unlink()  # Triton tells the former reason until it has loaded the version
    promote(repository, refused, polling)
    assert polling.loaded() == {spec.name: {refused} for spec in MODELS}


def test_a_version_that_loads_for_longer_than_triton_may_take_to_look_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = stating(READY=3, LOADING=4)
    control = scripted(monkeypatch, [stating(READY=3), loads, loads, loads, stating(READY=4)])
    monkeypatch.setattr(control_module, "time", Clock(lambda: POLL_TIMEOUT_S))
    control.follow({4})
    assert len({client for (client,), _ in control._index.call_args_list}) == 1  # another may be of another Triton


@pytest.mark.parametrize(
    ("refusal", "former"), [(None, []), (NOT_EXPLICIT, [stating(READY=3)])], ids=["told", "polling"]
)
def test_one_look_that_triton_does_not_answer_undoes_no_promotion(
    refusal: str | None, former: list[Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [*former, RepositoryError("busy"), stating(READY=4)], refusal).follow({4})


def test_a_triton_that_answers_no_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    control = scripted(monkeypatch, [stating(READY=3), RepositoryError("busy"), RepositoryError("gone")])
    monkeypatch.setattr(control_module, "time", Clock(lambda: POLL_TIMEOUT_S / 2))
    with pytest.raises(RepositoryError, match="gone"):
        control.follow({4})


def test_a_version_that_is_given_up_while_it_loads_is_gone_when_the_command_ends(
    polling: TritonControl, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(repository, 3, polling)
    seen: list[Index] = []
    look = polling._index

    def look_and_keep(client: InferenceServerClient) -> Index:
        seen.append(look(client))
        return seen[-1]

    with Gate(tmp_path / "gate") as gate:
        slow = publish_stubborn(repository, gate.path)

        def pass_s() -> float:
            if slow not in loading(seen[-1]):
                return 0
            if read_promoted(repository)[-1] == 3:
                gate.open()
            return 0 if gate.is_open else LOAD_TIMEOUT_S / 2

        monkeypatch.setattr(control_module, "time", Clock(pass_s))
        monkeypatch.setattr(polling, "_index", look_and_keep)
        with pytest.raises(RepositoryError, match=r"not ready after 600 s.*at version 3 as before"):
            promote(repository, slow, polling)
        assert gate.is_open
    assert polling.loaded() == {spec.name: {3} for spec in MODELS}
    assert loading(seen[-1]) == set()


def test_a_triton_that_does_not_answer_is_named_and_nothing_changes(repository: Path) -> None:
    url = f"127.0.0.1:{free_port()}"
    promote(repository, 1)
    promote(repository, 3)
    before = read_promoted(repository)
    for command in (
        lambda: promote(repository, 1, TritonControl(url)),
        lambda: rollback(repository, TritonControl(url)),
        lambda: prune(repository, 1, TritonControl(url)),
        lambda: describe(repository, TritonControl(url)),
    ):
        numbers = published(repository)
        with pytest.raises(RepositoryError, match=url):
            command()
        assert (read_promoted(repository), published(repository)) == (before, numbers)


def test_triton_is_told_directly_whatever_proxy_the_environment_names(
    server: TritonServer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    promote(repository, 3, TritonControl(server.grpc_url))
    assert TritonControl(server.grpc_url).loaded() == {spec.name: {3} for spec in MODELS}


def test_list_names_a_triton_that_does_not_serve_what_the_repository_says(
    server: TritonServer, repository: Path
) -> None:
    (served,) = set.union(*TritonControl(server.grpc_url).loaded().values())
    promote(repository, 4 - served)  # 1 or 3; a promotion that Triton was not told of
    listed = run_module("export.repository", "list", "--repository", str(repository), "--triton", server.grpc_url)
    assert listed.returncode == 0
    assert f"promote {4 - served}" in listed.stderr
