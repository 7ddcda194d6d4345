"""Checkpoint to verified engines in a Triton model repository.

    python -m export.build --checkpoint training/checkpoints/deeppcb_tiny --precision fp32 --target openvino \\
        --out model_repository

Engines that differ from PyTorch by more than their limits are not published: exit code 1, the report kept.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from export.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.contract.tensors import DETECTOR, MODELS, PROMPT_ENCODER
from export.engines import BUILDERS, PRECISIONS, build_engine, tool_version
from export.onnx_graphs import write_onnx
from export.repository import publish, staging_folder
from export.runtime.engine import EngineError, load_engine
from export.triton_config import render_config
from export.verify import LIMITS, GateError, read_images, verify

PICTURES = Path(__file__).resolve().parent.parent / "tests" / "data"


def build(
    checkpoint: Checkpoint, precision: str, target: str, repository: Path, images: Path, report_file: Path
) -> int:
    """Exports, verifies and publishes; returns the version's number.

    Raises:
        GateError: the engines failed; nothing was published and `report_file` says why.
    """
    pictures = read_images(images)
    staging = staging_folder(repository)
    engines = {}
    for spec in MODELS:
        _say(f"{spec.name}: exporting")
        graph = staging / f"{spec.name}.onnx"
        write_onnx(spec, checkpoint, graph)
        build_engine(graph, target, staging / spec.name)
        graph.unlink()
        engines[spec.name] = load_engine(staging / spec.name)
    _say(f"verifying against PyTorch on {len(pictures)} pictures")
    report = verify(checkpoint, engines, pictures, LIMITS[precision])
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if report["faults"]:
        raise GateError(f"not published, see {report_file}:\n" + "\n".join(report["faults"]))
    (staging / PROMPT_ENCODER.name / "tokenizer.json").write_bytes((checkpoint.folder / "tokenizer.json").read_bytes())
    common = {"checkpoint_name": checkpoint.name, "checkpoint_sha256": checkpoint.sha256}
    parameters = {spec.name: dict(common) for spec in MODELS}
    parameters[DETECTOR.name] |= {
        "defects": ",".join(checkpoint.defects),
        "score_thresholds": json.dumps(dict(checkpoint.score_thresholds)),
    }
    configs = {spec.name: render_config(spec, checkpoint.dimensions, parameters[spec.name]) for spec in MODELS}
    manifest: dict[str, Any] = {
        **common,
        "precision": precision,
        "target": target,
        "tools": {target: tool_version(target)},
        "dimensions": vars(checkpoint.dimensions),
        "verified": report["models"],
    }
    return publish(repository, staging, configs, manifest)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Runs the command line; 1 when the gate refuses the engines, 2 when the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--target", choices=tuple(BUILDERS), default="openvino")
    parser.add_argument("--out", type=Path, default=Path("model_repository"))
    parser.add_argument("--images", type=Path, default=PICTURES, help="folder of pictures to verify with")
    parser.add_argument("--report", type=Path, default=Path("build/export_report.json"))
    arguments = parser.parse_args()
    try:
        checkpoint = load_checkpoint(arguments.checkpoint)
        version = build(
            checkpoint, arguments.precision, arguments.target, arguments.out, arguments.images, arguments.report
        )
    except CheckpointError as error:
        _say(f"error: {error}")
        return 2
    except (GateError, EngineError) as error:
        _say(f"error: {error}")
        return 1
    _say(f"published version {version} of {', '.join(spec.name for spec in MODELS)} in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
