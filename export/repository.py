"""The Triton model repository: versions as numbered folders, whole or not at all.

A version is built beside the repository, on the same file system but outside of what Triton would take for
models, then renamed into place; both models of a checkpoint get the same number.
"""

import datetime
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.checkpoint import sha256_of
from export.contract.tensors import MODELS

MANIFEST = "manifest.json"
MODEL_PY = '''"""Runs this folder's engine inside Triton's Python backend."""

from export.runtime.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def staging_folder(repository: Path) -> Path:
    """An empty folder to build the next version in: `.NAME.staging` beside the repository."""
    folder = repository.resolve().with_name(f".{repository.resolve().name}.staging")
    shutil.rmtree(folder, ignore_errors=True)
    for spec in MODELS:
        (folder / spec.name).mkdir(parents=True)
    return folder


def publish(repository: Path, staging: Path, configs: Mapping[str, str], manifest: Mapping[str, Any]) -> int:
    """Moves the staged models into the repository as its next version and returns that number.

    Args:
        repository: created if it does not exist.
        staging: one folder per model with its engine files.
        configs: text of config.pbtxt by model name.
        manifest: what the version was made from; hashes of all files are added.
    """
    version = 1 + max((number for spec in MODELS for number in versions(repository, spec.name)), default=0)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for spec in MODELS:
        folder = staging / spec.name
        (folder / "model.py").write_text(MODEL_PY, encoding="utf-8")
        files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        content = {"model": spec.name, "version": version, "created": created, **manifest, "files": files}
        (folder / MANIFEST).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in folder.iterdir():
            _sync(path)
    moved: list[Path] = []
    try:
        for spec in MODELS:
            home = repository / spec.name
            home.mkdir(parents=True, exist_ok=True)
            partial = home / "config.pbtxt.partial"
            partial.write_text(configs[spec.name], encoding="utf-8")
            _sync(partial)
            (staging / spec.name).rename(home / str(version))
            moved.append(home / str(version))
            partial.replace(home / "config.pbtxt")
            _sync(home)
    except OSError:
        for folder in moved:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(staging, ignore_errors=True)
    return version


def versions(repository: Path, model: str) -> list[int]:
    """The numbers of a model's published versions, oldest first."""
    home = repository / model
    if not home.is_dir():
        return []
    return sorted(int(path.name) for path in home.iterdir() if path.is_dir() and path.name.isdigit())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
