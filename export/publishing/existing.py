"""Whether a repository already holds what a build would make, and whether what it serves runs on this machine.

Knows nothing of how engines are built; it compares what a version was published with.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.contract.promotion import CONFIG, RepositoryError, read_promoted
from export.contract.tensors import DETECTOR, MODELS
from export.contract.versions import check_whole, published, read_manifest
from export.engines.openvino_engine import computes_bf16
from export.engines.targets import tool_version
from export.graphs.checkpoint import Checkpoint
from export.graphs.onnx_graphs import EXPORT_FORMAT
from export.publishing.publication import configurations
from export.repository import promote
from export.runtime.error import EngineError
from export.tensorrt.cuda import device
from export.tensorrt.plan import Switches
from export.triton.config import TENSORRT

AMPERE = 8  # major number of the compute capability from which on --hardware-compatible plans run


@dataclass(frozen=True)
class Machine:
    """The version of a target's library, and the GPU that plans run on."""

    tool: str
    gpu: str | None = None
    is_ampere_or_newer: bool = False


def existing_version(
    repository: Path, checkpoint: Checkpoint, precision: str, target: str, switches: Switches
) -> int | None:
    """The newest version that this very build would make again, or None.

    Its graphs are of this EXPORT_FORMAT and all its configurations what this checkpoint gets now, thresholds included,
    in this precision; it was built by the same version of the target's library, for TensorRT on a GPU whose plans run
    on this one, with the same switches; and its files are whole.

    Raises:
        EngineError: the target is TensorRT, and there is no GPU, or TensorRT as trtexec alone.
    """
    wanted = configurations(checkpoint, precision, target, _this_machine(target).tool)
    for version in reversed(published(repository)):
        if not _runs_here(repository, version, target):
            continue
        manifest = read_manifest(repository, DETECTOR.name, version)
        built = _detector_of(manifest)
        if (
            manifest.get("export_format") == EXPORT_FORMAT
            and built is not None
            and _compatibility(built.get("switches", {})) == _compatibility(switches.used)
            and _configurations_of(repository, version) == wanted
        ):
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
    """Whether a version is whole, of the target and the library that is here, and of a GPU whose plans run on this.

    One that was judged in fp32 for want of bf16 was not judged in what a processor with bf16 computes.
    """
    try:
        check_whole(repository, version)
    except RepositoryError:
        return False
    manifest, machine = read_manifest(repository, DETECTOR.name, version), _this_machine(target)
    built = _detector_of(manifest) or {}
    of_any_gpu = machine.is_ampere_or_newer and built.get("switches", {}).get("hardware_compatible", False)
    return (
        manifest.get("target") == target
        and manifest.get("tools", {}).get(target) == machine.tool
        and not (manifest.get("bf16_judged_in") == "fp32" and computes_bf16())
        and (of_any_gpu or built.get("gpu") == machine.gpu)
    )


def _detector_of(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the builder said of the detector's engine; None where the manifest does not say it."""
    built: dict[str, Any] | None = manifest.get("built", {}).get(f"{DETECTOR.name}/model")
    return built


def _configurations_of(repository: Path, version: int) -> dict[str, str]:
    return {spec.name: (repository / spec.name / str(version) / CONFIG).read_text(encoding="utf-8") for spec in MODELS}


def _this_machine(target: str) -> Machine:
    """What plans are bound to; engines of other targets to no GPU.

    Raises:
        EngineError: the target is TensorRT, and there is no GPU, or TensorRT as trtexec alone.
    """
    if target != TENSORRT:
        return Machine(tool_version(target, {}))
    try:
        version = str(importlib.import_module("tensorrt").__version__)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"--skip-existing compares TensorRT's version, which its Python package tells, and that cannot be "
            f"imported: {error}; leave the flag out"
        ) from error
    found = device()
    major = int(found["compute_capability"].partition(".")[0])
    return Machine(version, found["gpu"], is_ampere_or_newer=major >= AMPERE)


def _compatibility(switches: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change the plan; a timing cache makes the build faster, and nothing else."""
    return {name: value for name, value in switches.items() if name != "timing_cache"}
