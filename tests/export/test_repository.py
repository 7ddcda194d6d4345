import json
from pathlib import Path

import pytest

from export.checkpoint import sha256_of
from export.contract.tensors import MODELS
from export.repository import publish, staging_folder, versions

CONFIGS = {spec.name: f'name: "{spec.name}"\n' for spec in MODELS}


def staged(repository: Path, content: str) -> Path:
    staging = staging_folder(repository)
    for spec in MODELS:
        (staging / spec.name / "model.onnx").write_text(content)
    return staging


def test_publish_numbers_versions_and_keeps_the_old_ones(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    assert [publish(repository, staged(repository, text), CONFIGS, {}) for text in ("a", "b")] == [1, 2]
    for spec in MODELS:
        assert versions(repository, spec.name) == [1, 2]
        assert (repository / spec.name / "1" / "model.onnx").read_text() == "a"
        assert (repository / spec.name / "2" / "model.onnx").read_text() == "b"
        assert (repository / spec.name / "config.pbtxt").read_text() == CONFIGS[spec.name]


def test_publish_records_the_hash_of_every_file(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, staged(repository, "a"), CONFIGS, {"precision": "fp32"})
    folder = repository / MODELS[0].name / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["precision"] == "fp32"
    assert manifest["files"] == {name: sha256_of(folder / name) for name in ("model.onnx", "model.py")}


def test_nothing_but_models_is_left_in_the_repository(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, staged(repository, "a"), CONFIGS, {})
    assert {path.name for path in repository.iterdir()} == {spec.name for spec in MODELS}
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_a_failure_half_way_leaves_no_version(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    staging = staged(repository, "a")
    last = MODELS[-1].name
    (repository / last).mkdir(parents=True)
    (repository / last / "config.pbtxt").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"config\.pbtxt"):
        publish(repository, staging, CONFIGS, {})
    assert all(versions(repository, spec.name) == [] for spec in MODELS)
