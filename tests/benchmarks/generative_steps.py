"""What several tokens a step are worth on labelled boards: steps, time, and mAP, against one token a step.

    python -m tests.benchmarks.generative_steps --checkpoint C --data ../shared/data/deeppcb --group 50600 \\
        > docs/benchmarks/generative_steps.json

Engines of ONNX Runtime, fp32, one thread, are built from the checkpoint. Every class of the boards is asked for by a
prompt of its own about every tile, eight prompts in a batch, as the service does; the ways of reading take turns, batch
by batch. Times are of the decoder's loop alone: what image and prompts cost before it is the same for all. Choose
boards that nothing was learned from and that no published figure is judged on. Progress goes to stderr, one JSON object
to stdout.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.contract.boxes import Detections
from export.contract.tensors import GENERATOR, graphs
from export.contract.tiles import cut_tiles, tile_origins
from export.graphs.checkpoint import Checkpoint, load_checkpoint
from export.graphs.generator_graphs import read_vocabulary
from export.graphs.onnx_graphs import write_onnx
from export.runtime.engine import Arrays, Engine, OnnxRuntimeEngine
from export.runtime.generator import Generator
from gateway.models.generator import read_boxes
from tests.benchmarks.generative_speed import ways_of_reading
from tests.benchmarks.origin import origin
from training.data.dataset import Dataset
from training.data.images import read_image
from training.data.source import read_dataset
from training.evaluate import QUESTIONS, class_names, judge, merge_answers


class Given:
    """An engine that answers what it is told to, so that none of the ways pays for what is the same for all."""

    def __init__(self) -> None:
        self.answer: dict[str, NDArray[Any]] = {}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The answer to whatever batch."""
        del inputs
        return self.answer


class Counted:
    """A decoder that counts its steps, and in how many of them each answer took part."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.steps, self.rows = engine, 0, 0

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One step of a batch."""
        self.steps += 1
        self.rows += len(inputs["TOKENS"])
        return self.engine.run(inputs)


def engines_of(checkpoint: Checkpoint) -> list[Engine]:
    """Vision, encoder and decoder."""
    engines: list[Engine] = []
    with tempfile.TemporaryDirectory() as folder:
        for graph in graphs(GENERATOR):
            path = Path(folder) / f"{graph}.onnx"
            write_onnx(GENERATOR, checkpoint, path, graph)
            engines.append(OnnxRuntimeEngine(path, 1))
    return engines


def measure(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, Any]:
    """Reads all boards in all ways."""
    vocabulary = read_vocabulary(checkpoint)
    first = int(vocabulary.token_ids[vocabulary.first_location])
    vision, encoder, decoder = engines_of(checkpoint)
    seen, read = Given(), Given()
    counted = {way: Counted(decoder) for way in ways_of_reading(vocabulary)}
    generators = {
        way: Generator(seen, read, counted[way], told, step_tokens=step_tokens)
        for way, (told, step_tokens) in ways_of_reading(vocabulary).items()
    }
    words = checkpoint.prompt_inputs([QUESTIONS["en"].format(label=name) for name in class_names(dataset, "en")])
    classes, tile = len(dataset.categories), checkpoint.dimensions.tile
    seconds = dict.fromkeys(generators, 0.0)
    tokens = dict.fromkeys(generators, 0)
    boxes = dict.fromkeys(generators, 0)
    found: dict[str, list[Detections]] = {way: [] for way in generators}
    same = answers = 0
    before = 0.0
    for sample in tqdm(dataset.samples, unit="board", file=sys.stderr, disable=None):
        image = read_image(sample.path)
        origins = tile_origins((image.shape[1], image.shape[0]), tile)
        tiles = cut_tiles(image, origins, tile)
        rows = np.arange(len(tiles) * classes)
        own: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {way: [] for way in generators}
        for start in range(0, len(rows), GENERATOR.max_batch_size):
            tile_ids, prompt_ids = np.divmod(rows[start : start + GENERATOR.max_batch_size], classes)
            inputs = {"IMAGE": tiles[tile_ids], **{name: array[prompt_ids] for name, array in words.items()}}
            said = {}
            shown, places = np.unique(tile_ids, return_inverse=True)
            started = time.perf_counter()
            seen.answer = vision.run({"IMAGE": tiles[shown]})
            features = seen.answer["IMAGE_FEATURES"][places]
            read.answer = encoder.run({"IMAGE_FEATURES": features, **{name: inputs[name] for name in words}})
            before += time.perf_counter() - started
            for way, generator in generators.items():
                started = time.perf_counter()
                outputs = generator.run(inputs)
                seconds[way] += time.perf_counter() - started
                said[way] = outputs["TOKENS"]
                tokens[way] += int((outputs["TOKENS"] != vocabulary.token_ids[vocabulary.pad]).sum())
                own[way] += [read_boxes(*answer, first) for answer in zip(said[way], outputs["LOG_PROBS"], strict=True)]
            answers += len(tile_ids)
            same += int((said["jump-forward"] == said["one at a time"]).all(1).sum())
        for way, all_boxes in own.items():
            boxes[way] += sum(len(scores) for _, scores in all_boxes)
            found[way].append(merge_answers(all_boxes, classes, origins, (image.shape[1], image.shape[0]), tile))
    return {
        "boards": len(dataset.samples),
        "answers": answers,
        "jump-forward gives the same answers": same,
        "seconds before the loop": round(before, 2),
        **{
            way: {
                "map50": round(judge(dataset, found[way]).map50, 4),
                "steps": counted[way].steps,
                "rows": counted[way].rows,
                "tokens": tokens[way],
                "boxes": boxes[way],
                "seconds": round(seconds[way], 2),
                "steps_per_box": round(counted[way].rows / boxes[way], 2),
                "tokens_per_second": round(tokens[way] / seconds[way]),
                "boxes_per_second": round(boxes[way] / seconds[way], 1),
            }
            for way in generators
        },
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="train", help="of a DeepPCB folder")
    parser.add_argument("--group", help="only the boards of this group")
    parser.add_argument("--boards", type=int, help="only so many of them, spread evenly")
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.data, arguments.split)
    samples = [sample for sample in dataset.samples if arguments.group in (None, sample.group)]
    samples = samples[:: max(1, len(samples) // (arguments.boards or len(samples)))][: arguments.boards]
    checkpoint = load_checkpoint(arguments.checkpoint)
    report = {
        **origin(),
        "checkpoint": checkpoint.name,
        **measure(checkpoint, Dataset(dataset.categories, tuple(samples))),
    }
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
