"""How long the generative reading takes: `transformers`' generate against the generator's engines.

    python -m tests.benchmarks.generative_speed [--checkpoint training/checkpoints/pcb_twelve | --base] \\
        [--rounds 20] [--tokens 30]

--base stands for the dimensions of Florence-2-base at 768 pixels with random weights. Two pieces of work: one prompt
about one tile, and twelve prompts about the same tile. Two baselines in PyTorch, fp32: `generate` once per prompt, and
`generate` for all prompts at once with the image encoded once. Against them ONNX Runtime fp32 and OpenVINO f32 and
bf16; the generator encodes the tile again for every prompt. All take as many steps: those that the grammar's answer
needs, --tokens at most. Everything is timed in turns, at one and at two threads, so that what else the machine does
strikes all alike. Progress goes to stderr, one JSON object to stdout.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers.modeling_outputs import BaseModelOutput

from export.checkpoint import Checkpoint, load_checkpoint
from export.contract.defects import DEFECTS
from export.contract.tensors import GENERATED_TOKENS, GENERATOR, LENGTH_BUCKETS, bucket, graphs
from export.generator_graphs import read_vocabulary
from export.onnx_graphs import write_onnx
from export.runtime.engine import Arrays, OnnxRuntimeEngine
from export.runtime.generator import Generator
from export.verify import read_images
from tests.conftest import BOARD, CHECKPOINT
from tests.training.published_florence2 import BASE, write_native
from training.checkpoint import save_checkpoint
from training.pretrained import load_pretrained

BASE_TILE = 768
WARM_UP = 2
THREADS = (1, 2)

Run = Callable[[], object]


class OpenVino:
    """OpenVINO IR on the CPU in a precision of choice, "f32" or "bf16"."""

    def __init__(self, path: Path, threads: int, precision: str) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch."""
        self._request.infer(dict(inputs), share_inputs=True)
        return {output.any_name: output_of(self._request, output) for output in self._request.model_outputs}


def output_of(request: Any, output: Any) -> NDArray[Any]:  # noqa: ANN401
    """An output of the request's last pass, as the caller's own array."""
    return np.array(request.get_tensor(output.any_name).data)


def base_checkpoint(folder: Path) -> Path:
    """A checkpoint of Florence-2-base's dimensions with random weights."""
    network, tokenizer = load_pretrained(
        write_native(folder / "published", BASE), tile_size=BASE_TILE, boxes_per_tile=100
    )
    manifest = {"name": "florence2_base_random", "defects": ["open"], "score_threshold": 0.25}
    save_checkpoint(folder / "checkpoint", network.eval(), tokenizer, manifest, log="")
    return folder / "checkpoint"


def inputs_of(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    """The middle of the board and a prompt for each class, as GENERATOR takes them."""
    tile = checkpoint.dimensions.tile
    board = read_images(BOARD.parent)[BOARD.name]
    board = np.tile(board, (-(-tile // board.shape[0]), -(-tile // board.shape[1]), 1))[:tile, :tile]
    encodings = checkpoint.tokenizer.encode_batch([defect.names_en[0] for defect in DEFECTS])
    length = bucket(max(len(encoding.ids) for encoding in encodings), LENGTH_BUCKETS, "tokens of a prompt")
    pad = checkpoint.tokenizer.token_to_id("<pad>")
    return {
        "IMAGE": np.repeat(board[None], len(encodings), axis=0),
        "INPUT_IDS": np.array([encoding.ids + [pad] * (length - len(encoding.ids)) for encoding in encodings]),
        "ATTENTION_MASK": np.array(
            [[1] * len(encoding.ids) + [0] * (length - len(encoding.ids)) for encoding in encodings]
        ),
    }


@torch.inference_mode()
def transformers_generate(checkpoint: Checkpoint, inputs: Arrays, new_tokens: int) -> Tensor:
    """`generate` for a batch of prompts about one image, which is encoded once; greedy, `new_tokens` behind <s>."""
    network: Any = checkpoint.network
    rows = len(inputs["INPUT_IDS"])
    mask = torch.from_numpy(inputs["ATTENTION_MASK"])
    mask = mask[:, : int(mask.sum(1).max())]
    input_ids = torch.from_numpy(inputs["INPUT_IDS"])[:, : mask.shape[1]]
    features = network.image_features(network.normalise(torch.from_numpy(inputs["IMAGE"][:1]))).expand(rows, -1, -1)
    embeds = torch.cat([features, network.get_input_embeddings()(input_ids)], dim=1)
    mask = torch.cat([mask.new_ones(features.shape[:2]), mask], dim=1)
    states = network.model.language_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    tokens: Tensor = network.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        min_new_tokens=new_tokens + 1,  # and <s>
        max_new_tokens=new_tokens + 1,
    )
    return tokens


def median_ms(runs: Mapping[str, Run], rounds: int, threads: int) -> dict[str, float]:
    """The median of each run's durations in milliseconds; they take turns."""
    torch.set_num_threads(threads)
    durations: dict[str, list[float]] = {name: [] for name in runs}
    label = f"{threads} threads"
    for _ in tqdm(range(WARM_UP + rounds), desc=label, unit="round", file=sys.stderr, disable=None):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            durations[name].append((time.perf_counter() - started) * 1e3)
    return {name: round(float(np.median(values[WARM_UP:])), 2) for name, values in durations.items()}


def measure(checkpoint: Checkpoint, folder: Path, rounds: int, max_tokens: int) -> dict[str, Any]:
    """Exports the generator into `folder` and times everything."""
    for graph in graphs(GENERATOR):
        write_onnx(GENERATOR, checkpoint, folder / f"{graph}.onnx", graph)
        openvino.save_model(
            openvino.convert_model(folder / f"{graph}.onnx"), folder / f"{graph}.xml", compress_to_fp16=False
        )
    vocabulary = read_vocabulary(checkpoint)
    makers: dict[str, Callable[[str, int], Any]] = {
        "onnxruntime fp32": lambda graph, threads: OnnxRuntimeEngine(folder / f"{graph}.onnx", threads),
        "openvino f32": lambda graph, threads: OpenVino(folder / f"{graph}.xml", threads, "f32"),
        "openvino bf16": lambda graph, threads: OpenVino(folder / f"{graph}.xml", threads, "bf16"),
    }
    every = inputs_of(checkpoint)
    work = {"one prompt": {name: array[:1] for name, array in every.items()}, f"{len(DEFECTS)} prompts": every}
    report: dict[str, Any] = {}
    for threads in THREADS:
        generators = {
            name: Generator(*(make(graph, threads) for graph in graphs(GENERATOR)), vocabulary, max_tokens)
            for name, make in makers.items()
        }
        for task, inputs in work.items():
            answers = {name: generator.run(inputs)["TOKENS"] for name, generator in generators.items()}
            pad = vocabulary.token_ids[vocabulary.pad]
            steps = int((answers["onnxruntime fp32"] != pad).sum(1).max())
            single = [
                {name: array[row : row + 1] for name, array in inputs.items()} for row in range(len(inputs["IMAGE"]))
            ]
            runs: dict[str, Run] = {
                "generate per prompt": lambda single=single, steps=steps: [  # type: ignore[misc]
                    transformers_generate(checkpoint, row, steps) for row in single
                ],
                "generate, image once": lambda inputs=inputs, steps=steps: transformers_generate(  # type: ignore[misc]
                    checkpoint, inputs, steps
                ),
            }
            for name, generator in generators.items():
                runs[name] = lambda generator=generator, inputs=inputs: generator.run(inputs)  # type: ignore[misc]
            medians = median_ms(runs, rounds, threads)
            agreed = {
                name: float((tokens == answers["onnxruntime fp32"]).all(1).mean()) for name, tokens in answers.items()
            }
            report[f"{task}, {threads} threads"] = {
                "tokens": steps,
                "median_ms": medians,
                "faster_than_generate": {
                    name: round(medians["generate per prompt"] / median, 2) for name, median in medians.items()
                },
                "same_answers_as_fp32": agreed,
            }
    return report


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    which.add_argument("--base", action="store_true", help="Florence-2-base's dimensions, random weights")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=30, help=f"of an answer at most, up to {GENERATED_TOKENS}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = load_checkpoint(base_checkpoint(folder) if arguments.base else arguments.checkpoint)
        report = {
            "checkpoint": checkpoint.name,
            "tile": checkpoint.dimensions.tile,
            "rounds": arguments.rounds,
            "cores": len(os.sched_getaffinity(0)),
            **measure(checkpoint, folder, arguments.rounds, arguments.tokens),
        }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
