"""`python -m export.build --skip-existing`: what is there is not built again, what cannot run here is replaced."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export import build as build_module
from export.contract.files import sha256_of
from export.contract.promotion import read_promoted
from export.contract.tensors import DETECTOR, GENERATOR, MODELS, ModelSpec
from export.contract.versions import published
from export.graphs.checkpoint import Checkpoint
from export.graphs.onnx_graphs import write_onnx
from export.publishing import existing
from export.repository import publish
from tests.export.test_repository import configs, staged


@pytest.fixture(scope="module", autouse=True)
def graphs_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each graph is exported once, which takes most of a build."""
    folder = tmp_path_factory.mktemp("graphs")

    def write_once(spec: ModelSpec, checkpoint: Checkpoint, path: Path, graph: str) -> None:
        kept = folder / f"{spec.name}_{graph}.onnx"
        if not kept.exists():
            write_onnx(spec, checkpoint, kept, graph)
        shutil.copy(kept, path)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(build_module, "write_onnx", write_once)
        yield


def build_again(repository: Path, checkpoint: Path, target: str) -> None:
    arguments = ["--checkpoint", checkpoint, "--out", repository, "--target", target, "--precision", "fp32"]
    arguments += ["--report", repository.with_name("report.json"), "--skip-existing"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("sys.argv", ["export.build", *map(str, arguments)])
        assert build_module.main() == 0


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def first(request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its first version, in a folder named after the target."""
    repository = tmp_path_factory.mktemp("first") / request.param / "models"
    build_again(repository, tiny_checkpoint, request.param)
    assert published(repository) == [1]
    return repository


@pytest.fixture
def repository(first: Path, tmp_path: Path) -> Path:
    return shutil.copytree(first, tmp_path / first.parent.name / "models", symlinks=True)


# A build for OpenVINO takes several times as long.
one_target = pytest.mark.parametrize("first", ["onnxruntime"], indirect=True)


def target_of(repository: Path) -> str:
    return repository.parent.name


def test_what_is_there_is_not_built_again(repository: Path, tiny_checkpoint: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in repository.rglob("*")}
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert {path: path.lstat().st_mtime_ns for path in repository.rglob("*")} == before
    assert not repository.with_name("report.json").exists()


@one_target
def test_other_thresholds_are_another_version_which_waits_to_be_promoted(
    repository: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    calibrated = shutil.copytree(tiny_checkpoint, tmp_path / "calibrated")
    manifest = json.loads((calibrated / "manifest.json").read_text())
    manifest["score_threshold"] = 0.5
    (calibrated / "manifest.json").write_text(json.dumps(manifest))
    build_again(repository, calibrated, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1,))
    build_again(repository, calibrated, target_of(repository))
    assert published(repository) == [1, 2]


def edit_manifests(repository: Path, version: int, change: Mapping[str, Any]) -> None:
    """Changes fields of a version's manifests; a field that becomes None goes."""
    for spec in MODELS:
        path = repository / spec.name / str(version) / "manifest.json"
        manifest = json.loads(path.read_text()) | change
        path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}))


@one_target
@pytest.mark.parametrize("spec", [DETECTOR, GENERATOR], ids=lambda spec: spec.name)
def test_what_another_release_configured_otherwise_is_built_anew(
    spec: ModelSpec, repository: Path, tiny_checkpoint: Path
) -> None:
    folder = repository / spec.name / "1"
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("max_queue_size: 256", "max_queue_size: 128"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.pbtxt"] = sha256_of(folder / "config.pbtxt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1,))
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert published(repository) == [1, 2]


@one_target
@pytest.mark.parametrize("change", [{"export_format": 0}, {"export_format": None}, {"built": None}], ids=str)
def test_what_another_releases_graphs_are_of_is_built_anew(
    change: dict[str, Any], repository: Path, tiny_checkpoint: Path
) -> None:
    edit_manifests(repository, 1, change)
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1,))


@one_target
@pytest.mark.parametrize(
    ("judged_in", "has_bf16", "served"), [("fp32", True, 2), ("fp32", False, 1), ("bf16", True, 1), ("bf16", False, 1)]
)
def test_bf16_that_was_judged_in_fp32_is_not_served_where_it_computes_in_bf16(
    judged_in: str,
    has_bf16: bool,
    served: int,
    repository: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(existing, "computes_bf16", lambda: has_bf16)
    edit_manifests(repository, 1, {"bf16_judged_in": judged_in})
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert read_promoted(repository)[-1] == served


@one_target
def test_what_another_library_made_is_built_and_served_anew(repository: Path, tiny_checkpoint: Path) -> None:
    edit_manifests(repository, 1, {"tools": {target_of(repository): "0.1"}})
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1, 2))


@one_target
def test_a_version_whose_manifest_is_cut_off_is_built_and_served_anew(repository: Path, tiny_checkpoint: Path) -> None:
    manifest = repository / MODELS[-1].name / "1" / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1, 2))


@one_target
def test_a_damaged_version_is_built_and_served_anew(repository: Path, tiny_checkpoint: Path) -> None:
    config = repository / DETECTOR.name / "1" / "config.pbtxt"
    config.write_text(config.read_text() + "\n")
    build_again(repository, tiny_checkpoint, target_of(repository))
    assert (published(repository), read_promoted(repository)) == ([1, 2], (1, 2))


@pytest.mark.parametrize(
    ("gpu", "compute_capability", "switches", "served"),
    [
        ("NVIDIA L4", "8.9", {}, 1),
        ("NVIDIA H100", "9.0", {}, 2),
        ("NVIDIA H100", "9.0", {"hardware_compatible": True}, 1),
        ("NVIDIA B200", "10.0", {"hardware_compatible": True}, 1),
        ("Tesla T4", "7.5", {"hardware_compatible": True}, 2),
    ],
)
def test_a_plan_for_all_newer_gpus_is_served_on_another(
    gpu: str,
    compute_capability: str,
    switches: dict[str, bool],
    served: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = tmp_path / "models"
    built = {"detector/model": {"gpu": "NVIDIA L4", "compute_capability": "8.9", "switches": switches}}
    manifest = {"target": "tensorrt", "tools": {"tensorrt": "11.4.0"}, "built": built}
    for content in ("a", "b"):
        publish(repository, staged(repository, content), configs(content), manifest)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))
    monkeypatch.setattr(existing, "device", lambda: {"gpu": gpu, "compute_capability": compute_capability})
    existing.promote_where_needed(repository, 2, "tensorrt")
    assert read_promoted(repository)[-1] == served
