"""How long words about a tile take: `transformers`' generate, the generator's engines, the grounding head.

    python -m tests.benchmarks.generative_speed > docs/benchmarks/generative_speed_pcb_twelve.json
    python -m tests.benchmarks.base_checkpoint --out build/florence2_base
    python -m tests.benchmarks.generative_speed --checkpoint build/florence2_base --rounds 3 --threads 2 > FILE

Two pieces of work: one prompt about one tile, and twelve prompts about the same tile. Two baselines in PyTorch, fp32:
`generate` once per prompt, and `generate` for all prompts at once with the image encoded once. Every answer has
--tokens tokens, so all do the same work. The generator reads one token a step, guesses labels (jump-forward), or also
reads boxes at once (parallel) where the checkpoint has slots; `steps` are those of the decoder. The grounding head
finds boxes for the same prompts without decoding; its prompts are encoded beforehand, as the service does, or anew.
Everything is timed in turns, so that what else the machine does strikes all alike; beside the time on the clock stands
the processor time of all threads. Progress goes to stderr, one JSON object to stdout.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from export.contract.defects import DEFECTS
from export.contract.tensors import DETECTOR, GENERATED_TOKENS, GENERATOR, MODELS, PROMPT_ENCODER, STEP_TOKENS, graphs
from export.contract.tiles import cut_tiles
from export.engines.targets import build_engine, precision_of
from export.gate.verify import padded, read_images
from export.graphs.checkpoint import Checkpoint, load_checkpoint
from export.graphs.generator_graphs import read_vocabulary
from export.graphs.onnx_graphs import write_onnx
from export.runtime.engine import ENGINES, Arrays, Engine
from export.runtime.generator import Generator
from export.runtime.grammar import Vocabulary
from tests.benchmarks.origin import origin
from tests.benchmarks.transformers_generate import transformers_generate
from tests.conftest import BOARD, CHECKPOINT

WARM_UP = 1
BUILT = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
BASELINE = "generate per prompt"

Run = Callable[[], object]


class Endless:
    """A decoder that does not end its answers: each has as many tokens as it may. Counts its steps."""

    def __init__(self, decoder: Engine, eos: int) -> None:
        self.decoder, self.eos, self.steps = decoder, eos, 0

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One step of a batch."""
        self.steps += 1
        allowed = inputs["ALLOWED"].copy()
        allowed[..., self.eos] = 0
        return self.decoder.run({**inputs, "ALLOWED": allowed})


def inputs_of(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    """One tile of the board again and again and a prompt for each class, as GENERATOR takes them."""
    board = read_images(BOARD.parent)[BOARD.name]
    (tile,) = cut_tiles(board, np.zeros((1, 2), np.int64), checkpoint.dimensions.tile)
    words = checkpoint.prompt_inputs([defect.names_en[0] for defect in DEFECTS])
    return {"IMAGE": np.repeat(tile[None], len(DEFECTS), axis=0), **words}


def build_all(checkpoint: Checkpoint, folder: Path) -> None:
    """Builds every model in the precisions of BUILT, as `python -m export.build` does, in TARGET_PRECISION/MODEL."""
    for spec in MODELS:
        for graph in tqdm(graphs(spec), desc=spec.name, unit="graph", file=sys.stderr, disable=None):
            file = folder / f"{graph}.onnx"
            write_onnx(spec, checkpoint, file, graph)
            for target, precision in BUILT:
                out = folder / f"{target}_{precision}" / spec.name
                out.mkdir(parents=True, exist_ok=True)
                build_engine(file, target, precision_of(spec, precision, target, graph), out, None, spec=spec)
            file.unlink()


def load(folder: Path, threads: int) -> dict[str, Engine]:
    """The engines of a model's folder by graph, each with so many threads."""
    return {path.stem: ENGINES[path.suffix](path, threads) for path in folder.iterdir() if path.suffix in ENGINES}


def ways_of_reading(vocabulary: Vocabulary) -> dict[str, tuple[Vocabulary, int]]:
    """What a generator is told, and the most tokens of a step, by name of the way."""
    ways = {
        "one at a time": (vocabulary, 1),
        "jump-forward": (dataclasses.replace(vocabulary, slots=0), STEP_TOKENS),
    }
    return ways | ({"parallel": (vocabulary, STEP_TOKENS)} if vocabulary.slots else {})


def runs_of(checkpoint: Checkpoint, folder: Path, threads: int, inputs: Arrays, tokens: int) -> dict[str, Run]:
    """Everything that is timed for a batch of prompts about one tile, by name; the baseline first."""
    vocabulary = read_vocabulary(checkpoint)
    singles = [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(len(inputs["IMAGE"]))]
    image = inputs["IMAGE"][:1]
    runs: dict[str, Run] = {
        BASELINE: lambda: [transformers_generate(checkpoint, image, single, tokens, tokens) for single in singles],
        "generate, image once": lambda: transformers_generate(checkpoint, image, inputs, tokens, tokens),
    }
    words = {tensor.name: inputs[tensor.name] for tensor in PROMPT_ENCODER.inputs}

    def add(name: str, generators: Mapping[str, Run], encoder: Engine, detector: Engine) -> None:
        def prompts() -> NDArray[np.float32]:
            return padded(encoder.run(words)["PROMPT_EMBEDDINGS"])[None]

        known = prompts()
        for way, run in generators.items():
            runs[f"generator, {name}, {way}"] = run
        runs[f"grounding, {name}"] = lambda: detector.run({"IMAGE": inputs["IMAGE"][:1], "PROMPT_EMBEDDINGS": known})
        runs[f"grounding and its prompts, {name}"] = lambda: detector.run(
            {"IMAGE": inputs["IMAGE"][:1], "PROMPT_EMBEDDINGS": prompts()}
        )

    for target, precision in BUILT:
        engines = {spec.name: load(folder / f"{target}_{precision}" / spec.name, threads) for spec in MODELS}
        vision, encoder, decoder = (engines[GENERATOR.name][graph] for graph in graphs(GENERATOR))
        generators = {
            way: partial(_read, vision, encoder, Endless(decoder, vocabulary.eos), told, tokens, step_tokens, inputs)
            for way, (told, step_tokens) in ways_of_reading(vocabulary).items()
        }
        add(
            f"{target} {precision}",
            generators,
            engines[PROMPT_ENCODER.name]["model"],
            engines[DETECTOR.name]["model"],
        )
    return runs


def _read(
    vision: Engine,
    encoder: Engine,
    decoder: Endless,
    vocabulary: Vocabulary,
    tokens: int,
    step_tokens: int,
    inputs: Arrays,
) -> int:
    """Answers a batch; returns how many steps that took."""
    before = decoder.steps
    Generator(vision, encoder, decoder, vocabulary, tokens, step_tokens).run(inputs)
    return decoder.steps - before


def medians_of(runs: Mapping[str, Run], rounds: int, label: str) -> dict[str, dict[str, float]]:
    """The medians of each run's durations in milliseconds, on the clock and of the processor; they take turns."""
    clock: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    steps: dict[str, int] = {}
    for _ in tqdm(range(WARM_UP + rounds), desc=label, unit="round", file=sys.stderr, disable=None):
        for name, run in runs.items():
            started = time.perf_counter(), time.process_time()
            answer = run()
            if isinstance(answer, int):
                steps[name] = answer
            clock[name].append((time.perf_counter() - started[0]) * 1e3)
            processor[name].append((time.process_time() - started[1]) * 1e3)
    return {
        name: {
            "ms": round(float(np.median(clock[name][WARM_UP:])), 2),
            "processor_ms": round(float(np.median(processor[name][WARM_UP:])), 2),
            **({"steps": steps[name]} if name in steps else {}),
        }
        for name in runs
    }


def measure(checkpoint: Checkpoint, folder: Path, rounds: int, tokens: int, threads: Sequence[int]) -> dict[str, Any]:
    """Builds everything in `folder` and times it."""
    build_all(checkpoint, folder)
    every = inputs_of(checkpoint)
    report: dict[str, Any] = {}
    for count in threads:
        torch.set_num_threads(count)
        for prompts in (1, len(DEFECTS)):
            inputs = {name: array[:prompts] for name, array in every.items()}
            label = f"{prompts} prompt{'s' * (prompts > 1)}, {count} thread{'s' * (count > 1)}"
            medians = medians_of(runs_of(checkpoint, folder, count, inputs, tokens), rounds, label)
            slowest, once = (medians[name] for name in (BASELINE, "generate, image once"))
            for entry in medians.values():
                kind = "processor_ms" if count == 1 else "ms"
                entry["times_generate"] = round(slowest[kind] / entry[kind], 2)
                entry["times_generate_image_once"] = round(once[kind] / entry[kind], 2)
            report[label] = medians
    return report


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=30, help=f"of each answer, up to {GENERATED_TOKENS}")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        checkpoint = load_checkpoint(arguments.checkpoint)
        report = {
            **origin(),
            "checkpoint": checkpoint.name,
            "tile": checkpoint.dimensions.tile,
            "tokens": arguments.tokens,
            "rounds": arguments.rounds,
            **measure(checkpoint, Path(name), arguments.rounds, arguments.tokens, arguments.threads),
        }
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
