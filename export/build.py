"""Checkpoint to verified engines in a Triton model repository.

    python -m export.build --precision int8
    python -m export.build --checkpoint training/checkpoints/pcb_twelve --precision bf16 --target openvino \\
        --calibration FOLDER --labelled ../shared/data/deeppcb --out model_repository

Quantisation is calibrated on the pictures that the checkpoint was trained on and judged on those that it was not,
both named by its manifest, unless --calibration and --labelled name others. Engines that differ from PyTorch by more
than export/limits.yaml allows are not published: exit code 1, the report kept.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.calibration import Calibration, CalibrationError, calibration_tiles, detector_rows
from export.candidates import quantised_detectors
from export.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.contract.tensors import DETECTOR, GENERATOR, MODELS, PROMPT_ENCODER, graphs
from export.contract.tiles import cut_tiles
from export.engines import PRECISIONS as TARGET_PRECISIONS
from export.engines import (
    build_engine,
    first_rows,
    median_latency_ms,
    pick_target,
    precision_of,
    size_bytes,
    tool_version,
)
from export.generator_graphs import read_vocabulary
from export.labelled import Boards, LabelledError, judging_boards, read_boards
from export.limits import NEED_LABELS, LimitsError, read_limits
from export.limits import PRECISIONS as LIMITED_PRECISIONS
from export.onnx_graphs import write_onnx
from export.promotion import RepositoryError, read_promoted
from export.repository import publish, staging_folder
from export.runtime.engine import Engine, EngineError, load_engine
from export.runtime.generator import load_generator
from export.triton_config import render_config
from export.verify import GateError, Reference, padded, read_images, verify

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "tests" / "data"
CHECKPOINT = ROOT / "training" / "checkpoints" / "pcb_twelve"


def build(
    checkpoint: Checkpoint,
    precision: str,
    target: str,
    repository: Path,
    images: Path,
    report_file: Path,
    *,
    labelled: Boards | None = None,
    calibration: Path | None = None,
) -> int:
    """Exports, verifies and publishes; returns the version's number.

    Args:
        labelled: pictures that mAP is judged on; without them it is not, and int8 and fp8 are refused.
        calibration: folder of pictures to calibrate with instead of the checkpoint's training data.

    Raises:
        GateError: the engines failed, or cannot be judged; nothing was published and `report_file` says why.
        EngineError: the target cannot be built here, or does not have the precision.
        CalibrationError: there are not enough real pictures.
    """
    target = pick_target(target, precision)
    if precision in NEED_LABELS and labelled is None:
        raise GateError(f"{precision} is judged by mAP, and no labelled pictures were found; give some with --labelled")
    pictures = read_images(images)
    reference = Reference(checkpoint, labelled)
    tile, prompts = checkpoint.dimensions.tile, padded(reference.embeddings)
    rows = None
    if precision in NEED_LABELS:
        rows = detector_rows(calibration_tiles(checkpoint.folder, tile, calibration), prompts)
    limits = read_limits()
    staging = staging_folder(repository)
    report: dict[str, Any] = {"precision": precision, "target": target}

    def judge_detector(engine: Engine) -> dict[str, Any]:
        return verify(checkpoint, {DETECTOR.name: engine}, pictures, limits[precision], reference)

    with tempfile.TemporaryDirectory(prefix="export-") as work:
        report |= _build_engines(checkpoint, precision, target, staging, Path(work), rows, judge_detector)
    detector = load_engine(staging / DETECTOR.name)
    others = {
        PROMPT_ENCODER.name: load_engine(staging / PROMPT_ENCODER.name),
        GENERATOR.name: load_generator(staging / GENERATOR.name),
    }
    _say(f"verifying against PyTorch on {len(pictures)} pictures")
    # A quantised detector was judged when it was chosen, and on the same pictures.
    report |= report.pop("judged", None) or judge_detector(detector)
    beside = verify(checkpoint, others, pictures, limits[precision_of(PROMPT_ENCODER, precision, target)], reference)
    report["models"] |= beside["models"]
    report["faults"] += beside["faults"]
    origins = np.zeros((1, 2), np.int64)
    sample = detector_rows(cut_tiles(next(iter(pictures.values())), origins, tile), prompts)
    report["latency_ms"] = {DETECTOR.name: round(median_latency_ms([detector], first_rows(sample, 1))[0], 3)}
    report["size_bytes"] = {spec.name: size_bytes(staging / spec.name) for spec in MODELS}
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if report["faults"]:
        raise GateError(f"not published, see {report_file}:\n" + "\n".join(report["faults"]))
    (staging / PROMPT_ENCODER.name / "tokenizer.json").write_bytes((checkpoint.folder / "tokenizer.json").read_bytes())
    version = _publish(checkpoint, repository, staging, report)
    _say(_summary(report))
    return version


def _build_engines(
    checkpoint: Checkpoint,
    precision: str,
    target: str,
    staging: Path,
    work: Path,
    rows: Calibration | None,
    judge_detector: Callable[[Engine], dict[str, Any]],
) -> dict[str, Any]:
    """Fills the staging folder; with calibration rows the detector is the best of several candidates."""
    report: dict[str, Any] = {"built": {}}
    image_tokens = _image_tokens(checkpoint)
    for spec in MODELS:
        _say(f"{spec.name}: exporting")
        for name in graphs(spec):
            file = work / spec.name / f"{name}.onnx"
            file.parent.mkdir(exist_ok=True)
            write_onnx(spec, checkpoint, file, name)
            if spec is DETECTOR and rows is not None:
                candidates = quantised_detectors(
                    file, target, precision, work / "candidates", rows, judge_detector, _say
                )
                best = candidates[0]
                shutil.copytree(best.folder, staging / spec.name, dirs_exist_ok=True)
                report["candidates"] = [candidate.as_json() for candidate in candidates]
                report["judged"] = best.report
                built = {"method": best.method, **best.built}
            else:
                own = precision_of(spec, precision, target)
                built = build_engine(file, target, own, staging / spec.name, None, spec=spec, image_tokens=image_tokens)
            report["built"][f"{spec.name}/{name}"] = built
    read_vocabulary(checkpoint).save(staging / GENERATOR.name)
    return report


def _publish(checkpoint: Checkpoint, repository: Path, staging: Path, report: Mapping[str, Any]) -> int:
    precision, target = report["precision"], report["target"]
    common = {"checkpoint_name": checkpoint.name, "checkpoint_sha256": checkpoint.sha256}
    parameters = {
        spec.name: {**common, "precision": precision_of(spec, precision, target), "target": target} for spec in MODELS
    }
    parameters[DETECTOR.name] |= {
        "defects": ",".join(checkpoint.defects),
        "score_thresholds": json.dumps(dict(checkpoint.score_thresholds)),
    }
    configs = {spec.name: render_config(spec, checkpoint.dimensions, parameters[spec.name], target) for spec in MODELS}
    manifest: dict[str, Any] = {
        **common,
        "precision": precision,
        "target": target,
        "tools": {target: tool_version(target, next(iter(report["built"].values())))},
        "dimensions": vars(checkpoint.dimensions),
        "built": report["built"],
        "map50": report["map50"],
        "verified": report["models"],
    }
    return publish(repository, staging, configs, manifest)


def _summary(report: Mapping[str, Any]) -> str:
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


def _image_tokens(checkpoint: Checkpoint) -> int:
    """Image tokens of a tile."""
    network: Any = checkpoint.network
    tile = checkpoint.dimensions.tile
    with torch.inference_mode():
        return int(network.image_features(network.normalise(torch.zeros(1, tile, tile, 3, dtype=torch.uint8))).shape[1])


def _served(repository: Path, published: int) -> str:
    """Which version is served, and how the published one comes to be."""
    served = read_promoted(repository)[-1]
    if served == published:
        return f"version {served} is served"
    return (
        f"version {served} is served as before; to serve this one: "
        f"python -m export.repository promote {published} --repository {repository}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _labelled(checkpoint: Checkpoint, precision: str, given: Path | None) -> Boards | None:
    """The pictures that mAP is judged on: those given, else those that judged the training, where they still are."""
    if given is not None:
        return read_boards(given)
    if precision == "fp32":
        return None
    try:
        return judging_boards(checkpoint.folder)
    except LabelledError as error:
        _say(f"no labelled pictures: {error}")
        return None


def main() -> int:
    """Runs the command line; 1 when the gate refuses the engines, 2 when the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--precision", choices=LIMITED_PRECISIONS, default="fp32")
    parser.add_argument("--target", choices=("auto", *TARGET_PRECISIONS), default="auto")
    parser.add_argument("--out", type=Path, default=Path("model_repository"))
    parser.add_argument("--images", type=Path, default=PICTURES, help="folder of pictures to verify with")
    parser.add_argument("--labelled", type=Path, help="COCO file or DeepPCB folder to judge mAP on")
    parser.add_argument("--calibration", type=Path, help="folder of at least 500 tiles' worth of pictures")
    parser.add_argument("--report", type=Path, default=Path("build/export_report.json"))
    arguments = parser.parse_args()
    try:
        checkpoint = load_checkpoint(arguments.checkpoint)
        version = build(
            checkpoint,
            arguments.precision,
            arguments.target,
            arguments.out,
            arguments.images,
            arguments.report,
            labelled=_labelled(checkpoint, arguments.precision, arguments.labelled),
            calibration=arguments.calibration,
        )
    except (CheckpointError, CalibrationError, LabelledError, LimitsError) as error:
        _say(f"error: {error}")
        return 2
    except (GateError, EngineError, RepositoryError) as error:
        _say(f"error: {error}")
        return 1
    _say(f"published version {version} of {', '.join(spec.name for spec in MODELS)} in {arguments.out}")
    _say(_served(arguments.out, version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
