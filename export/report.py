"""What each precision costs and gains: size, latency, throughput and mAP@0.5 of the detector on every target here.

    python -m export.report --labelled ../shared/data/deeppcb --out docs/benchmarks
    python -m export.report --checkpoint build/florence2_base --calibration FOLDER --tiles 8 --batches 1 --rounds 3

Writes engine_precision_NAME.json, .md and .png for the checkpoint NAME. PyTorch and the engines take turns in every
round, so that a busy moment hits all of them; a figure is the median of the rounds, its spread the quarter below and
above. Targets that this machine cannot run are named in the report, and mAP is left out where there are no labelled
pictures. Nothing is published, and no limit is applied: see export.build.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from export.boards.calibration import MIN_TILES, Calibration, CalibrationError, calibration_tiles, detector_rows
from export.boards.labelled import Boards, LabelledError
from export.contract.tensors import DETECTOR
from export.engines.targets import METHODS, PRECISIONS, build_engine, first_rows, size_bytes, tool_version
from export.gate.labelled import labelled_boards
from export.gate.verify import Reference, Run, judge, padded
from export.graphs.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from export.graphs.onnx_graphs import write_onnx
from export.report_page import as_markdown, draw
from export.runtime.engine import Arrays, load_engine
from export.runtime.error import EngineError

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "training" / "checkpoints" / "pcb_twelve"
PYTORCH = "PyTorch fp32"


@dataclass(frozen=True)
class Built:
    """A detector of one target, precision and method."""

    name: str
    target: str
    precision: str
    method: str
    size_mb: float
    tool: str  # version of what built it
    folder: Path


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
            load_engine(folder)  # or it is missing all the same
            built.append(Built(name, target, precision, method, size_mb, tool, folder))
        except EngineError as error:
            missing[name] = str(error.__cause__ or error)  # the tool's own words, the same for many engines
    return built, missing


def measure(
    loads: Mapping[str, Callable[[], Run]], rows: Calibration, batches: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Latencies in ms by batch size, median and quarters, and the throughput of the largest batch; all take turns.

    Each is loaded for its turn and runs once unmeasured: those of a large network do not fit into memory together.
    """
    inputs = {size: first_rows(rows, size) for size in batches}
    times: dict[tuple[str, int], list[float]] = {(name, size): [] for name in loads for size in batches}
    for _ in tqdm(range(rounds), desc="timing", unit="round", file=sys.stderr, disable=None):
        for name, load in loads.items():
            for size, latency_ms in _turn(load(), inputs).items():
                times[name, size].append(latency_ms)
    entries = []
    for name in loads:
        entry: dict[str, Any] = {"name": name}
        for size in batches:
            low, middle, high = np.percentile(times[name, size], (25, 50, 75))
            entry[f"latency_ms_{size}"] = round(float(middle), 3)
            entry[f"latency_ms_{size}_quarters"] = [round(float(low), 3), round(float(high), 3)]
        entry["tiles_per_second"] = round(1000 * batches[-1] / entry[f"latency_ms_{batches[-1]}"], 1)
        entries.append(entry)
    return entries


def _turn(run: Run, inputs: Mapping[int, Arrays]) -> dict[int, float]:
    latencies_ms = {}
    for size, batch in inputs.items():
        run(batch)
        begin = time.perf_counter()
        run(batch)
        latencies_ms[size] = 1000 * (time.perf_counter() - begin)
    return latencies_ms


def report(
    checkpoint: Checkpoint,
    boards: Boards | None,
    rows: Calibration,
    rounds: int,
    targets: Sequence[str],
    batches: Sequence[int] = (1, 8),
    threads: Sequence[int] = (1,),
) -> dict[str, Any]:
    """All figures of a checkpoint.

    Args:
        boards: labelled pictures to judge on, where there are any.
        rows: the detector's inputs for calibration tiles; the engines are timed on the first of them.
        rounds: of the timing.
        targets: of `export.engines.targets.PRECISIONS`.
        batches: tiles in a batch, ascending.
        threads: of an engine; everything is timed with each.
    """
    reference = Reference(checkpoint, boards)
    weights_mb = (checkpoint.folder / "model.safetensors").stat().st_size / 1e6
    with tempfile.TemporaryDirectory(prefix="report-") as name:
        graph = Path(name) / "model.onnx"
        write_onnx(DETECTOR, checkpoint, graph)
        built, missing = build_all(graph, Path(name), rows, targets)
        entries = []
        for count in threads:
            torch.set_num_threads(count)
            loads = _loads(reference, built, count)
            entries += [{"threads": count} | entry for entry in measure(loads, rows, batches, rounds)]
        judged = (
            {} if boards is None else {name: round(judge(reference, load(), name), 4) for name, load in loads.items()}
        )
    stated = {
        item.name: {
            "size_mb": round(item.size_mb, 2),
            **{key: getattr(item, key) for key in ("target", "precision", "method")},
        }
        for item in built
    }
    stated[PYTORCH] = {"size_mb": round(weights_mb, 2), "target": "pytorch", "precision": "fp32", "method": ""}
    return {
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.sha256, "tile": checkpoint.dimensions.tile},
        "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0))},
        "tools": {item.target: item.tool for item in built},
        "rounds": rounds,
        "batches": list(batches),
        "images": 0 if boards is None else len(boards.boards),
        "calibration_tiles": len(rows["IMAGE"]),
        "engines": [
            entry | stated[entry["name"]] | ({"map50": judged[entry["name"]]} if judged else {}) for entry in entries
        ],
        "missing": missing,
    }


def _loads(reference: Reference, built: Sequence[Built], threads: int) -> dict[str, Callable[[], Run]]:
    """What loads PyTorch's network and each engine."""
    engines = {item.name: partial(_load, item.folder, threads) for item in built}
    return {PYTORCH: lambda: reference.run(DETECTOR), **engines}


def _load(folder: Path, threads: int) -> Run:
    return load_engine(folder, threads=threads).run


def _processor() -> str:
    """The name that the machine gives its processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def calibration_rows(checkpoint: Checkpoint, reference: Reference, folder: Path | None, tiles: int) -> Calibration:
    """The detector's inputs for so many real tiles.

    Raises:
        CalibrationError: there are not enough.
    """
    pictures = calibration_tiles(checkpoint.folder, checkpoint.dimensions.tile, folder, tiles)
    return detector_rows(pictures, padded(reference.embeddings))


def _evenly(boards: Boards, count: int) -> Boards:
    """So many of the pictures, evenly chosen; all where there are fewer."""
    places = [index * len(boards.boards) // count for index in range(count)]
    return replace(boards, boards=tuple(boards.boards[place] for place in dict.fromkeys(places)))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is given, expected at least 1")
    return number


def main() -> int:
    """Runs the command line; 2 for input that cannot be used, or a file that cannot be read or written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--labelled", type=Path, help="COCO file or DeepPCB folder; default: what judged the training")
    parser.add_argument("--calibration", type=Path, help="folder of pictures; default: the training data")
    parser.add_argument("--images", type=_positive, help="judge on so many of the labelled pictures, evenly chosen")
    parser.add_argument("--tiles", type=_positive, default=MIN_TILES, help="to calibrate with; fewer than 500 cost mAP")
    parser.add_argument(
        "--batches", type=_positive, nargs="+", default=[1, 8], help="tiles in a batch, ascending, --tiles at most"
    )
    parser.add_argument("--threads", type=_positive, nargs="+", default=[1], help="of an engine; timed with each")
    parser.add_argument("--rounds", type=_positive, default=20)
    parser.add_argument("--targets", nargs="+", choices=tuple(PRECISIONS), default=tuple(PRECISIONS))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    if arguments.batches != sorted(set(arguments.batches)) or arguments.batches[-1] > arguments.tiles:
        parser.error(
            f"--batches is {' '.join(map(str, arguments.batches))}, expected each size once, ascending, "
            f"none larger than the {arguments.tiles} of --tiles: the engines are timed on these"
        )
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        checkpoint = load_checkpoint(arguments.checkpoint)
        boards = labelled_boards(checkpoint, arguments.labelled)
        if boards and arguments.images:
            boards = _evenly(boards, arguments.images)
        rows = calibration_rows(checkpoint, Reference(checkpoint), arguments.calibration, arguments.tiles)
        content = report(
            checkpoint, boards, rows, arguments.rounds, arguments.targets, arguments.batches, arguments.threads
        )
        print(as_markdown(content))  # noqa: T201
        stem = f"engine_precision_{checkpoint.name}"
        (arguments.out / f"{stem}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (arguments.out / f"{stem}.md").write_text(as_markdown(content), encoding="utf-8")
        draw(content, arguments.out / f"{stem}.png")
    except (CheckpointError, CalibrationError, LabelledError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
