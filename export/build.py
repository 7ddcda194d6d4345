"""Checkpoint to verified engines in a Triton model repository.

    python -m export.build --precision int8
    python -m export.build --checkpoint training/checkpoints/pcb_twelve --precision bf16 --target openvino \\
        --calibration FOLDER --labelled ../shared/data/deeppcb --out model_repository

Quantisation is calibrated on the pictures that the checkpoint was trained on and judged on those that it was not,
both named by its manifest, unless --calibration and --labelled name others. Engines that differ from PyTorch by more
than export/gate/limits.yaml allows are not published: exit code 1, the report kept.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.boards.calibration import Calibration, CalibrationError, calibration_tiles, detector_rows
from export.boards.labelled import Boards, LabelledError
from export.contract.promotion import RepositoryError
from export.contract.tensors import (
    DETECTOR,
    GENERATOR,
    MODELS,
    PROMPT_ENCODER,
    ContractError,
    graphs,
)
from export.contract.tiles import cut_tiles
from export.engines.candidates import quantised_detectors
from export.engines.openvino_engine import computes_bf16
from export.engines.targets import (
    DEFAULT_PRECISIONS,
    RANGED,
    build_engine,
    first_rows,
    load_built,
    median_latency_ms,
    pick,
    precision_of,
    size_bytes,
)
from export.engines.targets import PRECISIONS as TARGET_PRECISIONS
from export.gate.labelled import labelled_boards
from export.gate.limits import NEED_LABELS, LimitsError, read_limits
from export.gate.limits import PRECISIONS as LIMITED_PRECISIONS
from export.gate.verify import GateError, Reference, padded, read_images, verify
from export.graphs.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.graphs.generator_graphs import read_vocabulary
from export.graphs.onnx_graphs import image_tokens, write_onnx
from export.publishing.existing import existing_version, promote_where_needed
from export.publishing.publication import publish_verified, summary
from export.repository import held_staging, promotions
from export.runtime.engine import Engine
from export.runtime.error import EngineError
from export.runtime.generator import load_generator
from export.tensorrt.plan import LOG_SUFFIX, NO_SWITCHES, Switches
from export.tensorrt.precision import RANGE_ITEMS
from export.tensorrt.profiles import tuned_sizes
from export.triton.config import TENSORRT

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "tests" / "data"
CHECKPOINT = ROOT / "training" / "checkpoints" / "pcb_twelve"
DEFAULTS = ", ".join(f"{target} {precision}" for target, precision in DEFAULT_PRECISIONS.items())


def build(
    checkpoint: Checkpoint,
    precision: str | None,
    target: str,
    repository: Path,
    images: Path,
    report_file: Path,
    *,
    labelled: Boards | None = None,
    calibration: Path | None = None,
    switches: Switches = NO_SWITCHES,
) -> int:
    """Exports, verifies and publishes; returns the version's number.

    Args:
        precision: of `export.gate.limits.PRECISIONS`; None is the target's default.
        target: of `export.engines.targets.PRECISIONS`, or "auto".
        labelled: pictures that mAP is judged on; without them it is not, and int8 and fp8 are refused.
        report_file: says what was built and judged, or every fault, and until then that the build has not ended.
        calibration: folder of pictures to calibrate with instead of the checkpoint's training data.
        switches: of TensorRT; another target refuses them.

    Raises:
        GateError: the engines failed, or cannot be judged; nothing was published.
        CheckpointError: the checkpoint cannot generate.
        EngineError: the target cannot be built here, or has no use for the precision, the switches or the calibration.
        CalibrationError: there are not enough real pictures.
        RepositoryError: the repository cannot be changed from here.
        OSError: a file cannot be read or written.
    """
    target, precision = pick(target, precision)
    report: dict[str, Any] = {"precision": precision, "target": target, "faults": []}
    report_file.parent.mkdir(parents=True, exist_ok=True)
    _write(report_file, report | {"faults": ["the build has not ended"]})  # what cannot be written is found out now
    try:
        if target != TENSORRT and switches.used:
            flags = ", ".join("--" + name.replace("_", "-") for name in switches.used)
            raise EngineError(f"{flags}: TensorRT alone has these, and the target is {target}; leave out either")
        if precision in NEED_LABELS and labelled is None:
            raise GateError(
                f"{precision} is judged by mAP, and no labelled pictures were found; give some with --labelled"
            )
        pictures = read_images(images)
        reference = Reference(checkpoint, labelled)
        if labelled is not None:
            _say(f"PyTorch's own mAP@0.5 on {len(labelled.boards)} labelled pictures is {reference.map50:.4f}")
        tile, prompts = checkpoint.dimensions.tile, padded(reference.embeddings)
        rows = None
        if precision in NEED_LABELS:
            rows = detector_rows(calibration_tiles(checkpoint.folder, tile, calibration), prompts)
        elif calibration is not None:
            if (target, precision) not in RANGED:
                raise EngineError(f"{precision} for {target} calibrates nothing; leave out --calibration {calibration}")
            rows = detector_rows(calibration_tiles(checkpoint.folder, tile, calibration, RANGE_ITEMS), prompts)
        limits = read_limits()
        tuned = {spec.name: tuned_sizes(spec) for spec in MODELS} if target == TENSORRT else {}

        def judge_detector(engine: Engine) -> dict[str, Any]:
            return verify(checkpoint, {DETECTOR.name: engine}, pictures, limits[precision], reference, tuned)

        with held_staging(repository) as staging, tempfile.TemporaryDirectory(prefix="export-") as work:
            try:
                report |= _build_engines(
                    checkpoint, precision, target, staging, Path(work), rows, judge_detector, switches
                )
            finally:
                _keep_logs((staging, Path(work)), report_file)
            detector = load_built(staging / DETECTOR.name)
            others = {
                PROMPT_ENCODER.name: load_built(staging / PROMPT_ENCODER.name),
                GENERATOR.name: load_generator(staging / GENERATOR.name, load_built),
            }
            _say(f"verifying against PyTorch on {len(pictures)} pictures")
            # A quantised detector was judged when it was chosen, and on the same pictures.
            report |= report.pop("judged", None) or judge_detector(detector)
            own = precision_of(PROMPT_ENCODER, precision, target)
            if (target, own) == ("openvino", "bf16"):
                report["bf16_judged_in"] = "bf16" if computes_bf16() else "fp32"
                if report["bf16_judged_in"] != own:
                    _say(
                        "warning: this processor has no bf16, so OpenVINO computes in fp32 here and that is what is "
                        "judged; where a processor has bf16, build again"
                    )
            beside = verify(checkpoint, others, pictures, limits[own], reference, tuned)
            report["models"] |= beside["models"]
            report["faults"] += beside["faults"]
            origins = np.zeros((1, 2), np.int64)
            sample = detector_rows(cut_tiles(next(iter(pictures.values())), origins, tile), prompts)
            report["latency_ms"] = {DETECTOR.name: round(median_latency_ms([detector], first_rows(sample, 1))[0], 3)}
            report["size_bytes"] = {spec.name: size_bytes(staging / spec.name) for spec in MODELS}
            if not report["faults"]:
                tokenizer = (checkpoint.folder / "tokenizer.json").read_bytes()
                (staging / PROMPT_ENCODER.name / "tokenizer.json").write_bytes(tokenizer)
                version = publish_verified(checkpoint, repository, staging, report)
    except BaseException as error:  # Ctrl-C too
        report["faults"].append(f"{type(error).__name__}: {error}")
        raise
    finally:
        _write(report_file, report)
    if report["faults"]:
        raise GateError(f"not published, see {report_file}:\n" + "\n".join(report["faults"]))
    _say(summary(report))
    return version


def _build_engines(
    checkpoint: Checkpoint,
    precision: str,
    target: str,
    staging: Path,
    work: Path,
    rows: Calibration | None,
    judge_detector: Callable[[Engine], dict[str, Any]],
    switches: Switches,
) -> dict[str, Any]:
    """Fills the staging folder; a detector that is quantised is the best of several candidates."""
    report: dict[str, Any] = {"built": {}}
    tokens = image_tokens(checkpoint)
    for spec in MODELS:
        _say(f"{spec.name}: exporting")
        for name in graphs(spec):
            file = work / spec.name / f"{name}.onnx"
            file.parent.mkdir(exist_ok=True)
            write_onnx(spec, checkpoint, file, name)
            own_rows = rows if spec is DETECTOR else None
            if own_rows is not None and precision in NEED_LABELS:
                candidates = quantised_detectors(
                    file, target, precision, work / "candidates", own_rows, judge_detector, _say, switches
                )
                best = candidates[0]
                shutil.copytree(best.folder, staging / spec.name, dirs_exist_ok=True)
                report["candidates"] = [candidate.as_json() for candidate in candidates]
                report["judged"] = best.report
                built = {"method": best.method, **best.built}
            else:
                own = precision_of(spec, precision, target, name)
                built = build_engine(
                    file, target, own, staging / spec.name, own_rows, spec=spec, image_tokens=tokens, switches=switches
                )
            report["built"][f"{spec.name}/{name}"] = built
    read_vocabulary(checkpoint).save(staging / GENERATOR.name)
    return report


def _write(file: Path, report: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _keep_logs(folders: Sequence[Path], report_file: Path) -> None:
    """Copies TensorRT's logs beside the report, where they outlive engines that are refused."""
    for log in (path for folder in folders for path in sorted(folder.rglob(f"*{LOG_SUFFIX}"))):
        shutil.copy(log, report_file.with_name(f"{report_file.stem}.{log.parent.name}.{log.name}"))


def _served(repository: Path, published: int) -> str:
    """Which version is served, and how the published one comes to be."""
    served = promotions(repository)[-1]
    if served == published:
        return f"version {served} is served"
    return (
        f"version {served} is served as before; to serve this one: "
        f"python -m export.repository promote {published} --repository {repository}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Runs the command line; 1 when the engines are refused or cannot be written, 2 when the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--precision", choices=LIMITED_PRECISIONS, help=f"default by target: {DEFAULTS}")
    parser.add_argument("--target", choices=("auto", *TARGET_PRECISIONS), default="auto")
    parser.add_argument("--out", type=Path, default=Path("model_repository"))
    parser.add_argument("--images", type=Path, default=PICTURES, help="folder of pictures to verify with")
    parser.add_argument("--labelled", type=Path, help="COCO file or DeepPCB folder to judge mAP on")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="folder of pictures, for int8 and fp8 at least 500 tiles' worth; fp16 and TensorRT's bf16 can do with 8",
    )
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="TensorRT: kernel times, read and written")
    parser.add_argument("--hardware-compatible", action="store_true", help="TensorRT: for Ampere and all newer GPUs")
    parser.add_argument("--version-compatible", action="store_true", help="TensorRT: for later versions too")
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="build only what --out does not hold yet, from this checkpoint by this library on this GPU; "
        "where what is served does not run on this machine, serve what does",
    )
    parser.add_argument("--report", type=Path, default=Path("build/export_report.json"))
    arguments = parser.parse_args()
    try:
        target, precision = pick(arguments.target, arguments.precision)
        checkpoint = load_checkpoint(arguments.checkpoint)
        switches = Switches(arguments.hardware_compatible, arguments.version_compatible, arguments.timing_cache)
        version = None
        if arguments.skip_existing:
            version = existing_version(arguments.out, checkpoint, precision, target, switches)
        skipped = version is not None
        if version is None:
            is_judged = arguments.labelled is not None or precision != "fp32"
            version = build(
                checkpoint,
                precision,
                target,
                arguments.out,
                arguments.images,
                arguments.report,
                labelled=labelled_boards(checkpoint, arguments.labelled) if is_judged else None,
                calibration=arguments.calibration,
                switches=switches,
            )
        if arguments.skip_existing:
            promote_where_needed(arguments.out, version, target)
    except (CheckpointError, CalibrationError, LabelledError, LimitsError, ContractError) as error:
        _say(f"error: {error}")
        return 2
    except (GateError, EngineError, RepositoryError) as error:
        _say(f"error: {error}")
        return 1
    except OSError as error:
        written = ", ".join(map(str, (arguments.out, arguments.report, tempfile.gettempdir())))
        _say(f"error: {error}; files are written to {written}")
        return 1
    done = "nothing to build: there is" if skipped else "published"
    _say(f"{done} version {version} of {', '.join(spec.name for spec in MODELS)} in {arguments.out}")
    _say(_served(arguments.out, version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
