"""A checkpoint before and after pruning: size, work, latency in PyTorch and ONNX Runtime, and accuracy.

    python -m tests.benchmarks.pruning --before training/checkpoints/pcb_twelve --after runs/pcb_twelve_pruned \\
        --data ../shared/data/deeppcb [--split val] [--images 40]

Work and latency are of detecting with 12 prompts in one tile. Both networks are timed in turns, so that what else
the machine does strikes both; the medians' ratio is above 1 where the pruned one is faster. Accuracy is of the
grounding reading with English names. Progress goes to stderr, one JSON object to stdout.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from export.contract.tensors import DETECTOR
from export.engines.targets import build_engine
from export.graphs.checkpoint import Checkpoint
from export.graphs.checkpoint import load_checkpoint as load_for_export
from export.graphs.onnx_graphs import wrap, write_onnx
from export.runtime.engine import load_engine
from tests.benchmarks.origin import origin
from training.data.dataset import Dataset
from training.data.source import read_dataset
from training.evaluate import evaluate_grounding
from training.network.checkpoint import load_checkpoint
from training.network.pruning import count_flops, count_parameters

PROMPTS = 12
WARM_UP, ROUNDS = 3, 50

Run = Callable[[], object]


def pytorch(checkpoint: Checkpoint, inputs: Mapping[str, NDArray[Any]]) -> Run:
    """The detector in PyTorch."""
    module = wrap(DETECTOR, checkpoint)
    tensors = [torch.from_numpy(inputs[tensor.name]) for tensor in DETECTOR.inputs]

    def run() -> object:
        with torch.inference_mode():
            return module(*tensors)

    return run


def onnxruntime(checkpoint: Checkpoint, inputs: Mapping[str, NDArray[Any]]) -> Run:
    """The detector as export.build makes it, in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "graph").mkdir()
        write_onnx(DETECTOR, checkpoint, folder / "graph" / "model.onnx")
        build_engine(folder / "graph" / "model.onnx", "onnxruntime", "fp32", folder, None)
        engine = load_engine(folder)
    return lambda: engine.run(inputs)


def median_ms(runs: Mapping[str, Run]) -> dict[str, float]:
    """The median of each run's durations in milliseconds; they take turns."""
    durations: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(WARM_UP + ROUNDS), unit="round", file=sys.stderr, disable=None):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            durations[name].append((time.perf_counter() - started) * 1e3)
    return {name: float(np.median(values[WARM_UP:])) for name, values in durations.items()}


def sizes(folder: Path, dataset: Dataset) -> dict[str, Any]:
    """Everything about a checkpoint but its latency."""
    network, tokenizer, manifest = load_checkpoint(folder)
    return {
        "checkpoint": manifest["name"],
        "parameters": count_parameters(network),
        "bytes": (folder / "model.safetensors").stat().st_size,
        "flops": count_flops(network, PROMPTS),
        "map50": round(evaluate_grounding(network, tokenizer, dataset, ("en",))["en"].map50, 4),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkpoint")
    parser.add_argument("--after", type=Path, required=True, help="checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    parser.add_argument("--images", type=int, help="pictures of it to judge on, evenly spread; all without this")
    arguments = parser.parse_args()
    made, dataset = origin(), read_dataset(arguments.data, arguments.split)
    chosen = np.unique(np.linspace(0, len(dataset.samples) - 1, arguments.images or len(dataset.samples)).astype(int))
    dataset = replace(dataset, samples=tuple(dataset.samples[index] for index in chosen))
    folders = {"before": arguments.before, "after": arguments.after}
    report: dict[str, Any] = {**made, "split": arguments.split, "images": len(dataset.samples)}
    report |= {name: sizes(folder, dataset) for name, folder in folders.items()}

    checkpoints = {name: load_for_export(folder) for name, folder in folders.items()}
    dimensions = checkpoints["before"].dimensions
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(1, PROMPTS, dimensions.embedding)).astype(np.float32)
    inputs = {
        "IMAGE": rng.integers(0, 256, (1, dimensions.tile, dimensions.tile, 3), dtype=np.uint8),
        "PROMPT_EMBEDDINGS": prompts / np.linalg.norm(prompts, axis=2, keepdims=True),
    }
    engines: dict[str, Callable[[Checkpoint, Mapping[str, NDArray[Any]]], Run]] = {
        "pytorch": pytorch,
        "onnxruntime": onnxruntime,
    }
    runs = {
        f"{engine} {name}": make(checkpoint, inputs)
        for engine, make in engines.items()
        for name, checkpoint in checkpoints.items()
    }
    medians = median_ms(runs)
    for engine in engines:
        before, after = (medians[f"{engine} {name}"] for name in ("before", "after"))
        report[engine] = {"before_ms": round(before, 2), "after_ms": round(after, 2), "ratio": round(before / after, 3)}
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
