"""What each precision costs and gains: size, latency, throughput and mAP@0.5 of the detector on every target here.

    python -m export.report --labelled ../shared/data/deeppcb --out docs/benchmarks
    python -m export.report --checkpoint CHECKPOINT --calibration FOLDER --rounds 30 --images 20

Writes engine_precision_NAME.json, .md and .png for the checkpoint NAME. The engines take turns in every round, so that
a busy moment hits all of them; a figure is the median of the rounds, its spread the quarter below and above. Targets
that this machine cannot run are named in the report. Nothing is published, and no limit is applied: see export.build.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.calibration import Calibration, CalibrationError, calibration_tiles, detector_rows
from export.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.contract.tensors import DETECTOR
from export.engines import METHODS, PRECISIONS, build_engine, first_rows, size_bytes, tool_version
from export.labelled import Boards, LabelledError, judging_boards, read_boards
from export.onnx_graphs import write_onnx
from export.runtime.engine import Engine, EngineError, load_engine
from export.verify import Reference, judge, padded

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "training" / "checkpoints" / "pcb_twelve"
BATCHES = (1, 8)
METRICS = ("size_mb", "latency_ms_1", "latency_ms_8", "tiles_per_second", "map50")


@dataclass(frozen=True)
class Built:
    """A detector of one target, precision and method."""

    name: str
    target: str
    precision: str
    method: str
    size_mb: float
    tool: str  # version of what built it
    engine: Engine


def build_all(graph: Path, work: Path, rows: Calibration, targets: Sequence[str]) -> tuple[list[Built], dict[str, str]]:
    """A detector for every precision and method of the targets, and why the others cannot be had here."""
    built, missing = [], {}
    wanted = [
        (target, precision, method)
        for target in targets
        for precision in PRECISIONS[target]
        for method in METHODS.get((target, precision), ("",))
    ]
    for target, precision, method in tqdm(wanted, desc="building", unit="engine", file=sys.stderr, disable=None):
        name = " ".join(part for part in (target, precision, method) if part)
        folder = work / name.replace(" ", "_")
        folder.mkdir()
        try:
            said = build_engine(graph, target, precision, folder, rows, method=method)
            size_mb, tool = size_bytes(folder) / 1e6, tool_version(target, said)
            built.append(Built(name, target, precision, method, size_mb, tool, load_engine(folder)))
        except EngineError as error:
            missing[name] = str(error)
    return built, missing


def measure(built: Sequence[Built], rows: Calibration, rounds: int) -> list[dict[str, Any]]:
    """Latencies in ms by batch size, median and quarters, the engines in turns."""
    batches = {size: first_rows(rows, size) for size in BATCHES}
    times: dict[tuple[int, int], list[float]] = {(index, size): [] for index in range(len(built)) for size in BATCHES}
    for item in built:
        for inputs in batches.values():
            item.engine.run(inputs)
    for _ in tqdm(range(rounds), desc="timing", unit="round", file=sys.stderr, disable=None):
        for index, item in enumerate(built):
            for size, inputs in batches.items():
                begin = time.perf_counter()
                item.engine.run(inputs)
                times[index, size].append(1000 * (time.perf_counter() - begin))
    entries = []
    for index, item in enumerate(built):
        entry: dict[str, Any] = {name: getattr(item, name) for name in ("name", "target", "precision", "method")}
        entry["size_mb"] = round(item.size_mb, 2)
        for size in BATCHES:
            low, middle, high = np.percentile(times[index, size], (25, 50, 75))
            entry[f"latency_ms_{size}"] = round(float(middle), 3)
            entry[f"latency_ms_{size}_quarters"] = [round(float(low), 3), round(float(high), 3)]
        entry["tiles_per_second"] = round(1000 * BATCHES[-1] / entry[f"latency_ms_{BATCHES[-1]}"], 1)
        entries.append(entry)
    return entries


def report(
    checkpoint: Checkpoint, boards: Boards, rows: Calibration, rounds: int, targets: Sequence[str]
) -> dict[str, Any]:
    """All figures of a checkpoint.

    Args:
        boards: labelled pictures to judge on.
        rows: the detector's inputs for calibration tiles; the engines are timed on the first of them.
        rounds: of the timing.
    """
    reference = Reference(checkpoint, boards)
    with tempfile.TemporaryDirectory(prefix="report-") as name:
        graph = Path(name) / "model.onnx"
        write_onnx(DETECTOR, checkpoint, graph)
        built, missing = build_all(graph, Path(name), rows, targets)
        entries = measure(built, rows, rounds)
        for entry, item in zip(entries, built, strict=True):
            entry["map50"] = round(judge(reference, item.engine.run, item.name), 4)
    return {
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.sha256, "tile": checkpoint.dimensions.tile},
        "machine": {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0))},
        "tools": {item.target: item.tool for item in built},
        "rounds": rounds,
        "images": len(boards.boards),
        "calibration_tiles": len(rows["IMAGE"]),
        "pytorch_map50": round(reference.map50, 4),
        "engines": entries,
        "missing": missing,
    }


def calibration_rows(checkpoint: Checkpoint, reference: Reference, folder: Path | None) -> Calibration:
    """The detector's inputs for real tiles.

    Raises:
        CalibrationError: there are not enough.
    """
    tiles = calibration_tiles(checkpoint.folder, checkpoint.dimensions.tile, folder)
    return detector_rows(tiles, padded(reference.embeddings))


def as_markdown(content: dict[str, Any]) -> str:
    """A table of the figures, a row for each engine."""
    head = ("engine", "size, MB", "ms, batch 1", "ms, batch 8", "tiles/s", "mAP@0.5")
    lines = [f"# The detector of {content['checkpoint']['name']} by precision", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for entry in content["engines"]:
        cells = [entry["name"], *(f"{entry[metric]:g}" for metric in METRICS)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"PyTorch in fp32: mAP@0.5 {content['pytorch_map50']:g} on {content['images']} pictures. "
        f"Medians of {content['rounds']} rounds in which the engines took turns, "
        f"{content['machine']['cores']} cores; calibrated on {content['calibration_tiles']} tiles.",
    ]
    lines += [f"\nNot run, {name}: {reason}" for name, reason in content["missing"].items()]
    return "\n".join(lines) + "\n"


def draw(content: dict[str, Any], file: Path) -> None:
    """Latency at batch 1, quarters as whiskers, against mAP@0.5; a mark for each engine, its area the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for entry in content["engines"]:
        latency, (low, high) = entry["latency_ms_1"], entry["latency_ms_1_quarters"]
        axes.errorbar(latency, entry["map50"], xerr=[[latency - low], [high - latency]], color="grey", capsize=3)
        axes.scatter(latency, entry["map50"], s=8 * entry["size_mb"], label=f"{entry['name']}, {entry['size_mb']:g} MB")
    axes.axhline(content["pytorch_map50"], linestyle="--", color="grey", label="PyTorch, fp32")
    axes.set(xlabel="latency of one tile, ms", ylabel="mAP@0.5", title=content["checkpoint"]["name"])
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main() -> int:
    """Runs the command line; 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--labelled", type=Path, help="COCO file or DeepPCB folder; default: what judged the training")
    parser.add_argument("--calibration", type=Path, help="folder of pictures; default: the training data")
    parser.add_argument("--images", type=int, help="judge on so many of the labelled pictures, evenly chosen")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--targets", nargs="+", choices=tuple(PRECISIONS), default=tuple(PRECISIONS))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    try:
        checkpoint = load_checkpoint(arguments.checkpoint)
        boards = read_boards(arguments.labelled) if arguments.labelled else judging_boards(checkpoint.folder)
        if arguments.images:
            boards = replace(boards, boards=boards.boards[:: max(1, len(boards.boards) // arguments.images)])
        rows = calibration_rows(checkpoint, Reference(checkpoint), arguments.calibration)
        content = report(checkpoint, boards, rows, arguments.rounds, arguments.targets)
    except (CheckpointError, CalibrationError, LabelledError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"engine_precision_{checkpoint.name}"
    stem.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(as_markdown(content), encoding="utf-8")
    draw(content, stem.with_suffix(".png"))
    print(as_markdown(content))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
