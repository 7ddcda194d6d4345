import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as pb

from export import build as build_module
from export.boards.labelled import read_boards
from export.build import _served, build
from export.contract.files import sha256_of
from export.contract.tensors import MODELS, ModelSpec, graphs
from export.contract.versions import LOCK
from export.gate.verify import GateError
from export.graphs.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.graphs.onnx_graphs import write_onnx
from export.runtime.engine import Arrays, Engine, load_engine
from export.runtime.error import EngineError
from export.tensorrt.plan import Switches
from gateway.models.served import read_score_thresholds
from tests.conftest import BOARD, embedded_triton, run_module
from tests.export.test_tensorrt_build import SAVE, stand_in, without_tensorrt

PICTURES = BOARD.parent


@pytest.fixture(scope="module", autouse=True)
def graphs_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All builds in this file are of one checkpoint: each graph is exported once, which takes most of a build."""
    folder = tmp_path_factory.mktemp("graphs")

    def write_once(spec: ModelSpec, checkpoint: Checkpoint, path: Path, graph: str) -> None:
        kept = folder / f"{spec.name}_{graph}.onnx"
        if not kept.exists():
            write_onnx(spec, checkpoint, kept, graph)
        shutil.copy(kept, path)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(build_module, "write_onnx", write_once)
        yield


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def built(request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param) / "models"
    assert (
        build(load_checkpoint(tiny_checkpoint), "fp32", request.param, out, PICTURES, out.parent / "report.json") == 1
    )
    return out


def test_build_publishes_what_the_manifest_says(built: Path, tiny_checkpoint: Path) -> None:
    for spec in MODELS:
        folder = built / spec.name / "1"
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["checkpoint_sha256"] == sha256_of(tiny_checkpoint / "model.safetensors")
        assert manifest["files"] == {name: sha256_of(folder / name) for name in manifest["files"]}
        assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
        config = text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())
        assert config.parameters["precision"].string_value == manifest["precision"] == "fp32"
        assert config.parameters["target"].string_value == manifest["target"] == built.parent.name[:-1]
    report = json.loads((built.parent / "report.json").read_text())
    assert not report["faults"]
    assert report["map50"] == {"judged": False, "reason": "no labelled pictures were given"}
    assert report["models"]["generator"]["token_agreement"] == 1
    assert report["latency_ms"]["detector"] > 0


def test_build_hands_the_thresholds_of_every_class_over(built: Path) -> None:
    config = text_format.Parse((built / "detector" / "config.pbtxt").read_text(), pb.ModelConfig())
    thresholds = read_score_thresholds(config.parameters["score_thresholds"].string_value)
    assert thresholds == {"open": 0.25, "short": 0.25, "default": 0.25}


def test_calibrated_thresholds_of_other_classes_are_handed_over_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "calibrated"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["calibration"] = {"score_thresholds": {"short": 0.5, "corrosion": 0.7}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    thresholds = {"open": 0.25, "short": 0.5, "corrosion": 0.7, "default": 0.25}
    assert load_checkpoint(folder).score_thresholds == thresholds


def test_build_says_which_version_is_served_and_how_another_comes_to_be(built: Path) -> None:
    assert _served(built, 1) == "version 1 is served"
    assert f"promote 2 --repository {built}" in _served(built, 2)


def test_triton_serves_what_was_built(built: Path) -> None:
    with embedded_triton(built) as server:
        assert server.is_ready()


def test_engine_gives_a_batch_what_it_gives_its_items(built: Path) -> None:
    engine = load_engine(built / "detector" / "1")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    prompts = rng.normal(size=(3, 16, 64)).astype(np.float32)
    prompts /= np.linalg.norm(prompts, axis=2, keepdims=True)
    together = engine.run({"IMAGE": image, "PROMPT_EMBEDDINGS": prompts})
    for index in range(3):
        item = slice(index, index + 1)
        alone = engine.run({"IMAGE": image[item], "PROMPT_EMBEDDINGS": prompts[item]})
        np.testing.assert_allclose(together["SCORES"][item], alone["SCORES"], atol=1e-4)
        np.testing.assert_allclose(together["BOXES"][item], alone["BOXES"], atol=1e-4)


def test_the_manifest_says_that_bf16_was_judged_in_fp32_where_there_is_no_bf16(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_module, "computes_bf16", lambda: False)
    out = tmp_path / "models"
    build(load_checkpoint(tiny_checkpoint), "bf16", "openvino", out, PICTURES, tmp_path / "report.json")
    for spec in MODELS:
        manifest = json.loads((out / spec.name / "1" / "manifest.json").read_text())
        assert (manifest["precision"], manifest["bf16_judged_in"]) == ("bf16", "fp32")
    assert "warning: this processor has no bf16" in capsys.readouterr().err


def left_in(folder: Path) -> set[str]:
    """The names in a folder but for the locks of a repository."""
    return {path.name for path in folder.iterdir() if path.suffix != LOCK}


class Disturbed:
    """An engine whose outputs are changed."""

    def __init__(self, engine: Engine, change: Any) -> None:  # noqa: ANN401
        self.engine, self.change = engine, change

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {name: self.change(array) for name, array in self.engine.run(inputs).items()}


def to_nan(array: NDArray[Any]) -> NDArray[Any]:
    changed = array.copy()
    changed.flat[0] = np.nan
    return changed


def one_value(array: NDArray[Any]) -> NDArray[Any]:
    changed = array.copy()
    changed.flat[0] += 0.05
    return changed


def to_nan_alone(array: NDArray[Any]) -> NDArray[Any]:
    return to_nan(array) if len(array) == 1 else array


@pytest.mark.parametrize(
    "change", [to_nan, to_nan_alone, one_value], ids=["nan", "nan of an item alone", "one value off"]
)
def test_the_gate_refuses_a_wrong_engine(
    change: Any,  # noqa: ANN401
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_changed(folder: Path, graph: str = "model") -> Engine:
        engine = load_engine(folder, graph)
        return Disturbed(engine, change) if graph == "model" else engine  # the generator is left alone

    monkeypatch.setattr(build_module, "load_built", load_changed)
    report = tmp_path / "report.json"
    with pytest.raises(GateError):
        build(load_checkpoint(tiny_checkpoint), "fp32", "onnxruntime", tmp_path / "models", PICTURES, report)
    assert json.loads(report.read_text())["faults"]
    assert left_in(tmp_path) == {"report.json"}


def test_a_checkpoint_without_weights_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    result = run_module("export.build", "--checkpoint", str(broken), "--out", str(tmp_path / "models"))
    assert result.returncode == 2
    assert "model.safetensors" in result.stderr
    assert not (tmp_path / "models").exists()


def test_a_truncated_checkpoint_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / "truncated")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(broken)


@pytest.mark.parametrize("content", ['{"name": "tiny", "def', "[]"])
def test_a_checkpoint_whose_manifest_cannot_be_read_is_named(
    content: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    (broken / "manifest.json").write_text(content)
    result = run_module("export.build", "--checkpoint", str(broken), "--out", str(tmp_path / "models"))
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert str(broken / "manifest.json") in result.stderr
    assert not (tmp_path / "models").exists()


def label_many_classes(folder: Path) -> Path:
    """A COCO file of one picture and 65 classes, one more than a checkpoint can be asked for."""
    shutil.copy(BOARD, folder)
    content = {
        "categories": [{"id": number, "name": f"defect {number}"} for number in range(65)],
        "images": [{"id": 1, "file_name": BOARD.name}],
        "annotations": [{"image_id": 1, "category_id": 64, "bbox": [1, 2, 30, 40]}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def test_labels_of_more_classes_than_can_be_asked_for_are_named_before_anything_is_built(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    labelled, report = label_many_classes(tmp_path), tmp_path / "report.json"
    arguments = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "models", "--labelled", labelled]
    result = run_module("export.build", *map(str, arguments), "--report", str(report), "--target", "onnxruntime")
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert f"{labelled}: categories: 65" in result.stderr
    assert not report.exists()


def test_a_file_that_cannot_be_written_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    report = tmp_path / "a file" / "report.json"
    arguments = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "models", "--report", report]
    result = run_module("export.build", *map(str, arguments), "--target", "onnxruntime")
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    assert str(report.parent) in result.stderr


def test_a_report_that_cannot_be_written_is_found_out_before_anything_is_published(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "a folder"
    report.mkdir()
    with pytest.raises(IsADirectoryError):
        build(load_checkpoint(tiny_checkpoint), "fp32", "onnxruntime", tmp_path / "models", PICTURES, report)
    assert left_in(tmp_path) == {report.name}


def test_pictures_that_judge_no_engine_end_a_build_before_it_calibrates_or_exports(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "write_onnx", lambda *_: pytest.fail("a graph is exported"))
    checkpoint, labelled = load_checkpoint(tiny_checkpoint), read_boards(BOARD.with_suffix(".json"))
    report = tmp_path / "report.json"
    with pytest.raises(GateError, match="PyTorch's own mAP"):
        build(checkpoint, "int8", "onnxruntime", tmp_path / "models", PICTURES, report, labelled=labelled)
    assert left_in(tmp_path) == {"report.json"}


def test_an_unsupported_precision_is_refused_with_what_is_supported() -> None:
    result = run_module("export.build", "--checkpoint", "nowhere", "--precision", "int4")
    assert result.returncode == 2
    assert "fp32" in result.stderr


def test_a_build_that_fails_leaves_its_report_and_nothing_else(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nonsense(spec: ModelSpec, checkpoint: Checkpoint, path: Path, graph: str) -> None:
        path.write_bytes(b"no graph")

    monkeypatch.setattr(build_module, "write_onnx", write_nonsense)
    report = tmp_path / "report.json"
    with pytest.raises(EngineError):
        build(load_checkpoint(tiny_checkpoint), "bf16", "openvino", tmp_path / "models", PICTURES, report)
    (fault,) = json.loads(report.read_text())["faults"]
    assert "detector: model in bf16 for openvino" in fault
    assert left_in(tmp_path) == {"report.json"}


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("cannot generate"),
        RuntimeError("cannot export"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_report_of_a_build_that_ends_early_says_why_and_nothing_of_a_former_one(
    error: BaseException, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"faults": [], "map50": "of a former build"}')

    def write_nothing(spec: ModelSpec, checkpoint: Checkpoint, path: Path, graph: str) -> None:
        assert json.loads(report.read_text())["faults"] == ["the build has not ended"]
        raise error

    monkeypatch.setattr(build_module, "write_onnx", write_nothing)
    with pytest.raises(type(error)):
        build(load_checkpoint(tiny_checkpoint), "fp32", "onnxruntime", tmp_path / "models", PICTURES, report)
    faults = [f"{type(error).__name__}: {error}"]
    assert json.loads(report.read_text()) == {"precision": "fp32", "target": "onnxruntime", "faults": faults}
    assert left_in(tmp_path) == {"report.json"}


def test_the_report_of_a_build_that_cannot_be_judged_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"faults": [], "map50": "of a former build"}')
    with pytest.raises(GateError, match="--labelled"):
        build(load_checkpoint(tiny_checkpoint), "int8", "onnxruntime", tmp_path / "models", PICTURES, report)
    (fault,) = json.loads(report.read_text())["faults"]
    assert "--labelled" in fault
    assert left_in(tmp_path) == {"report.json"}


@without_tensorrt
def test_a_refused_build_leaves_its_report_and_the_builders_logs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plans are built, by a stand-in, which cannot run them."""
    stand_in(tmp_path, "110100", SAVE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    out, report = tmp_path / "models", tmp_path / "reports" / "report.json"
    with pytest.raises(EngineError, match="no outputs"):
        build(load_checkpoint(tiny_checkpoint), "fp32", "tensorrt", out, PICTURES, report)
    assert any("no outputs" in fault for fault in json.loads(report.read_text())["faults"])
    logs = {f"report.{spec.name}.{name}.build.log" for spec in MODELS for name in graphs(spec)}
    assert {path.name for path in report.parent.iterdir()} == {report.name, *logs}
    assert left_in(tmp_path) == {"trtexec", "reports"}


def test_switches_of_tensorrt_are_refused_by_other_targets(tiny_checkpoint: Path, tmp_path: Path) -> None:
    switches = Switches(version_compatible=True, timing_cache=tmp_path / "cache")
    with pytest.raises(EngineError, match=r"--version-compatible, --timing-cache.*openvino"):
        build(
            load_checkpoint(tiny_checkpoint),
            "fp32",
            "openvino",
            tmp_path / "models",
            PICTURES,
            tmp_path / "report.json",
            switches=switches,
        )
    assert left_in(tmp_path) == {"report.json"}


def test_load_engine_names_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.xml"):
        load_engine(tmp_path)
