"""What a verified build is published with, config.pbtxt and manifest, and what the one who started it is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.contract.tensors import DETECTOR, MODELS
from export.engines.targets import precision_of, tool_version
from export.graphs.checkpoint import Checkpoint
from export.graphs.onnx_graphs import EXPORT_FORMAT
from export.repository import publish
from export.triton.config import NEWEST_TENSORRT, TENSORRT, render_config


def publish_verified(checkpoint: Checkpoint, repository: Path, staging: Path, report: Mapping[str, Any]) -> int:
    """Publishes the engines of a staging folder that passed the gate, and returns the version's number.

    Args:
        report: of the build; what it says of precision, target and engines goes into configurations and manifest.

    Raises:
        EngineError: an engine is missing.
        RepositoryError: as `export.repository.publish` does.
    """
    precision, target = report["precision"], report["target"]
    tool = tool_version(target, next(iter(report["built"].values())))
    manifest: dict[str, Any] = {
        **_origin(checkpoint),
        "export_format": EXPORT_FORMAT,
        "precision": precision,
        "bf16_judged_in": report.get("bf16_judged_in"),  # fp32 on a processor without bf16
        "target": target,
        "tools": {target: tool},
        "dimensions": vars(checkpoint.dimensions),
        "built": report["built"],
        "map50": report["map50"],
        "verified": report["models"],
    }
    return publish(repository, staging, configurations(checkpoint, precision, target, tool), manifest)


def configurations(checkpoint: Checkpoint, precision: str, target: str, tool: str) -> dict[str, str]:
    """The text of config.pbtxt by model name; `tool` is the version of the target's library."""
    common = {**_origin(checkpoint), "target": target}
    parameters = {spec.name: {**common, "precision": precision_of(spec, precision, target)} for spec in MODELS}
    parameters[DETECTOR.name] = detector_parameters(checkpoint, precision, target)
    tensorrt_major = int(tool.split(".")[0]) if target == TENSORRT else NEWEST_TENSORRT
    return {
        spec.name: render_config(spec, checkpoint.dimensions, parameters[spec.name], target, tensorrt_major)
        for spec in MODELS
    }


def detector_parameters(checkpoint: Checkpoint, precision: str, target: str) -> dict[str, str]:
    """What the detector's config.pbtxt says of the checkpoint that it was made from, and of how."""
    return {
        **_origin(checkpoint),
        "precision": precision_of(DETECTOR, precision, target),
        "target": target,
        "defects": ",".join(checkpoint.defects),
        "outlines": "true" if checkpoint.outlines else "false",
        "score_thresholds": json.dumps(dict(checkpoint.score_thresholds)),
    }


def _origin(checkpoint: Checkpoint) -> dict[str, str]:
    return {"checkpoint_name": checkpoint.name, "checkpoint_sha256": checkpoint.sha256}


def summary(report: Mapping[str, Any]) -> str:
    """What was done, for the one who started it."""
    sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in report["size_bytes"].items())
    judged = report["map50"]
    lines = [
        f"{report['precision']} for {report['target']}: {sizes}",
        f"detector: {report['latency_ms'][DETECTOR.name]:.1f} ms for a tile",
        f"mAP@0.5 {judged['engine']:.4f}, PyTorch's {judged['pytorch']:.4f}, on {judged['images']} pictures"
        if judged["judged"]
        else f"mAP was not judged: {judged['reason']}",
    ]
    for candidate in report.get("candidates", ()):
        lines.append(
            f"{candidate['method']}: {'passed' if candidate['passed'] else 'refused'}, "
            f"{candidate['latency_ms']:.1f} ms for a tile, {candidate['size_bytes'] / 1e6:.1f} MB, "
            f"mAP@0.5 {candidate['map50'].get('engine', float('nan')):.4f}, layers kept in higher precision: "
            f"{', '.join(candidate['kept']) or 'none'}"
        )
    return "\n".join(lines)
