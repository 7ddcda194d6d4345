"""Whether a repository already holds what a build would make, and whether what it serves runs on this machine.

Knows nothing of how engines are built; it compares what a version was published with.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.contract.promotion import CONFIG, RepositoryError, read_promoted
from export.contract.tensors import DETECTOR
from export.contract.versions import check_whole, published, read_manifest
from export.engines.targets import tool_version
from export.graphs.checkpoint import Checkpoint
from export.publishing.publication import detector_parameters
from export.repository import promote
from export.runtime.error import EngineError
from export.tensorrt.cuda import device
from export.tensorrt.plan import Switches
from export.triton.config import TENSORRT, read_config

Machine = Mapping[str, str | None]


def existing_version(
    repository: Path, checkpoint: Checkpoint, precision: str, target: str, switches: Switches
) -> int | None:
    """The newest version that this very build would make again, or None.

    It is of the same checkpoint, thresholds included, in the same precision, built by the same version of the
    target's library, for TensorRT on the same kind of GPU with the same switches; and its files are whole.
    """
    wanted = detector_parameters(checkpoint, precision, target)
    for version in reversed(published(repository)):
        if not _runs_here(repository, version, target):
            continue
        config = read_config((repository / DETECTOR.name / str(version) / CONFIG).read_text(encoding="utf-8"))
        given = {name: config.parameters[name].string_value for name in wanted}
        built = read_manifest(repository, DETECTOR.name, version)["built"][f"{DETECTOR.name}/model"]
        same_switches = _compatibility(built.get("switches", {})) == _compatibility(switches.used)
        if given == wanted and same_switches:
            return version
    return None


def promote_where_needed(repository: Path, version: int, target: str) -> None:
    """Promotes a version that runs on this machine if what is served does not.

    Raises:
        RepositoryError: as `export.repository.promote` does.
    """
    promoted = read_promoted(repository)
    if not promoted or not _runs_here(repository, promoted[-1], target):
        promote(repository, version)


def _runs_here(repository: Path, version: int, target: str) -> bool:
    """Whether a version is whole, of the target, and of the library and GPU that are here."""
    try:
        check_whole(repository, version)
    except RepositoryError:
        return False
    manifest = read_manifest(repository, DETECTOR.name, version)
    built = manifest["built"][f"{DETECTOR.name}/model"]
    made_by = {"tool": manifest["tools"].get(target), "gpu": built.get("gpu")}
    return manifest["target"] == target and made_by == _this_machine(target)


def _this_machine(target: str) -> Machine:
    """What plans are bound to; engines of other targets to no GPU.

    Raises:
        EngineError: the target is TensorRT, and there is no GPU, or TensorRT as trtexec alone.
    """
    if target != TENSORRT:
        return {"tool": tool_version(target, {}), "gpu": None}
    try:
        version = str(importlib.import_module("tensorrt").__version__)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"--skip-existing compares TensorRT's version, which its Python package tells, and that cannot be "
            f"imported: {error}; leave the flag out"
        ) from error
    return {"tool": version, "gpu": device()["gpu"]}


def _compatibility(switches: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change the plan; a timing cache makes the build faster, and nothing else."""
    return {name: value for name, value in switches.items() if name != "timing_cache"}
