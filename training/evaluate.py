"""Judges a checkpoint on labelled boards, in both readings and both languages; trains nothing.

    python -m training.evaluate --checkpoint training/checkpoints/pcb_twelve --data ../shared/data/deeppcb
    python -m training.evaluate --checkpoint C --data heldout/annotations.json --described blemish
    python -m training.evaluate --checkpoint C --data D --reading grounding --reference B --max-drop 0.02
    python -m training.evaluate --checkpoint C --data data/synth_val/annotations.json --reading outlines

The second asks for what was never labelled in training by its descriptions, each a class of its own: zero-shot.
The third ends with exit code 1 where C finds less than B does, for a pipeline to stop there.
The fourth judges the outlines that the generative reading writes of what is in the labelled boxes.
Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from export.contract.boxes import Detections
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from training.crops.view import show
from training.data.dataset import Dataset, DatasetError
from training.data.described import by_description
from training.data.images import read_image
from training.data.outline import largest, overlap
from training.data.source import read_judging
from training.metrics import MAX_DETECTIONS, Figures, Truth, evaluate_detections
from training.network.checkpoint import CheckpointError
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES, Language, names
from training.reading.checkpoint import open_checkpoint
from training.reading.detect import TILES_PER_BATCH, embed_prompts, merge_looks, read_tiles
from training.reading.generate import Answer, generate, generate_outlines
from training.reading.magnification import magnification

SCORE_THRESHOLD = 0.01  # low: average precision looks at the whole curve
NMS_THRESHOLD = 0.3
ANSWERS_PER_BATCH = 64  # of the generative reading, which keeps the states of each prompt about each tile or view
QUESTIONS = {"en": "locate {label}", "zh": "图像中是否存在{label}?"}  # to the generative reading


def class_names(dataset: Dataset, language: Language) -> list[str]:
    """The usual name of each class, which it is asked for by."""
    return [names(category, language)[0] for category in dataset.categories]


def judge(dataset: Dataset, found: Sequence[Detections]) -> Figures:
    """The figures of detections, one list per sample."""
    truths = [Truth(sample.boxes_xyxy, sample.class_ids) for sample in dataset.samples]
    return evaluate_detections(truths, found, [category.id for category in dataset.categories])


def find_grounding(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    dataset: Dataset,
    languages: Sequence[Language] = LANGUAGES,
    magnifications: Sequence[float] = (1.0,),
) -> dict[Language, list[Detections]]:
    """What the grounding reading finds in each sample, by language; all languages share one pass over each image.

    Raises:
        DatasetError: names of classes are too long to be asked for.
    """
    classes = len(dataset.categories)
    texts = [name for language in languages for name in class_names(dataset, language)]
    embeddings = embed_prompts(network, tokenizer, texts)
    found: dict[Language, list[Detections]] = {language: [] for language in languages}
    for sample in tqdm(dataset.samples, desc="grounding", unit="image", file=sys.stderr, leave=False, disable=None):
        image = read_image(sample.path)
        looks = [read_tiles(network, embeddings, image, magnification) for magnification in magnifications]
        for index, language in enumerate(languages):
            own = slice(index * classes, (index + 1) * classes)
            found[language].append(
                merge_looks(
                    looks,
                    score_threshold=SCORE_THRESHOLD,
                    nms_threshold=NMS_THRESHOLD,
                    max_detections=MAX_DETECTIONS,
                    prompts=own,
                )
            )
    return found


def evaluate_grounding(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    dataset: Dataset,
    languages: Sequence[Language] = LANGUAGES,
    magnifications: Sequence[float] = (1.0,),
) -> dict[Language, Figures]:
    """Figures of the grounding reading by language; raises as `find_grounding` does."""
    found = find_grounding(network, tokenizer, dataset, languages, magnifications)
    return {language: judge(dataset, detections) for language, detections in found.items()}


@torch.inference_mode()
def evaluate_generative(
    network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset, language: Language
) -> Figures:
    """Figures of the generative reading, each class asked for by a prompt of its own.

    Raises:
        DatasetError: names of classes are too long to be asked for.
    """
    tile = network.config.tile_size
    prompts = [QUESTIONS[language].format(label=name) for name in class_names(dataset, language)]
    found: list[Detections] = []
    for sample in tqdm(dataset.samples, desc=f"generative, {language}", unit="image", file=sys.stderr, disable=None):
        image = read_image(sample.path)
        resolution_wh = (image.shape[1], image.shape[0])
        origins = tile_origins(resolution_wh, tile)
        tiles = torch.from_numpy(cut_tiles(image, origins, tile))
        parts = [network.image_features(network.normalise(part)) for part in tiles.split(TILES_PER_BATCH)]
        features, asked = torch.cat(parts), list(product(range(len(tiles)), prompts))
        answers: list[Answer] = []
        for start in range(0, len(asked), ANSWERS_PER_BATCH):
            tile_ids, texts = zip(*asked[start : start + ANSWERS_PER_BATCH], strict=True)
            answers += generate(network, tokenizer, features[list(tile_ids)], texts)
        read = [(answer.boxes_xyxy, answer.scores) for answer in answers]
        found.append(merge_answers(read, len(prompts), origins, resolution_wh, tile))
    return judge(dataset, found)


@torch.inference_mode()
def evaluate_outlines(network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset) -> dict[str, Any]:
    """Mean IoU of written outlines with labelled ones, the box given, overall and by class.

    Judged is each box with a polygon, in a view of its own as the gateway asks.

    Raises:
        DatasetError: there is no such box.
    """
    tile = network.config.tile_size
    overlaps: dict[str, list[float]] = {}
    for sample in tqdm(dataset.samples, desc="outlines", unit="image", file=sys.stderr, disable=None):
        outlined = [row for row, polygons in enumerate(sample.polygons) if polygons]
        image = read_image(sample.path)
        for start in range(0, len(outlined), ANSWERS_PER_BATCH):
            rows = outlined[start : start + ANSWERS_PER_BATCH]
            boxes = sample.boxes_xyxy[rows]
            views, origins, sides = zip(*(show(image, box, tile) for box in boxes), strict=True)
            features = network.image_features(network.normalise(torch.from_numpy(np.stack(views))))
            regions = (boxes - np.tile(origins, 2)) / np.array(sides)[:, None]
            outlines = generate_outlines(network, tokenizer, features, regions)
            for row, origin, side, outline in zip(rows, origins, sides, outlines, strict=True):
                written = (outline * side + origin).astype(np.float32)
                own = overlaps.setdefault(dataset.categories[sample.class_ids[row]].id, [])
                own.append(overlap(written, largest(sample.polygons[row])))
    if not overlaps:
        raise DatasetError("no box has a polygon; give a COCO file with segmentations")
    every = np.concatenate(list(overlaps.values()))
    return {
        "boxes": len(every),
        "mean_iou": round(float(every.mean()), 4),
        "mean_iou_by_class": {name: round(float(np.mean(own)), 4) for name, own in sorted(overlaps.items())},
    }


def merge_answers(
    answers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    prompts: int,
    origins: NDArray[np.int64],
    resolution_wh: tuple[int, int],
    tile: int,
) -> Detections:
    """What the generative reading says of one image's tiles, in boxes of the image; class_ids index the prompts.

    `answers` are boxes (N, 4), as fractions of the tile, and scores (N,) for each prompt about each tile, those about
    a tile side by side.
    """
    most = max(1, max(len(scores) for _, scores in answers))
    boxes = np.zeros((len(origins), prompts * most, 4), np.float32)
    scores = np.zeros((len(origins), prompts * most, prompts), np.float32)
    for index, (own_boxes, own_scores) in enumerate(answers):
        tile_id, prompt_id = divmod(index, prompts)
        rows = slice(prompt_id * most, prompt_id * most + len(own_scores))
        boxes[tile_id, rows] = own_boxes
        scores[tile_id, rows, prompt_id] = own_scores
    return merge_tiles(
        boxes,
        scores,
        origins,
        resolution_wh,
        tile,
        score_threshold=SCORE_THRESHOLD,
        nms_threshold=NMS_THRESHOLD,
        max_detections=MAX_DETECTIONS,
    )


def drops(figures: Mapping[Language, Figures], reference: Mapping[Language, Figures]) -> dict[Language, float]:
    """How much mAP@0.5 lies below the reference's, by language; negative where it lies above."""
    return {language: round(reference[language].map50 - own.map50, 4) for language, own in figures.items()}


def main() -> int:
    """Runs the command line; 1 where a reference finds more, 2 for a checkpoint or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    parser.add_argument("--described", metavar="CATEGORY", help="ask for each description of this category instead")
    parser.add_argument("--reading", choices=("grounding", "generative", "both", "outlines"), default="both")
    text = "how large tiles show the image, in the grounding reading; several are looks of their own"
    parser.add_argument("--magnification", type=magnification, nargs="+", default=[1.0], help=text)
    text = "a checkpoint that the grounding reading is compared with, by mAP@0.5 in each language"
    parser.add_argument("--reference", type=Path, metavar="CHECKPOINT", help=text)
    text = "how far below the reference is good enough; beyond it the exit code is 1"
    parser.add_argument("--max-drop", type=float, help=text + "; 0 unless given")
    arguments = parser.parse_args()
    if arguments.reference is not None and arguments.reading not in ("grounding", "both"):
        parser.error("--reference compares the grounding reading; ask for --reading grounding or both")
    if arguments.reference is None and arguments.max_drop is not None:
        parser.error("--max-drop is how far below --reference is good enough; give that checkpoint too")
    try:
        network, tokenizer, manifest = open_checkpoint(arguments.checkpoint)
        reference = None if arguments.reference is None else open_checkpoint(arguments.reference)
        dataset = read_judging(arguments.data, arguments.split)
        if arguments.described:
            dataset = by_description(dataset, arguments.described)
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    report: dict[str, Any] = {"checkpoint": manifest["name"], "split": arguments.split, "images": len(dataset.samples)}
    try:
        if arguments.reading in ("grounding", "both"):
            grounding = evaluate_grounding(network, tokenizer, dataset, magnifications=arguments.magnification)
            report["grounding"] = {language: figures.as_json() for language, figures in grounding.items()}
            if reference is not None:
                other = evaluate_grounding(*reference[:2], dataset, magnifications=arguments.magnification)
                report["reference"] = {language: figures.as_json() for language, figures in other.items()}
                report["drop"] = drops(grounding, other)
        if arguments.reading in ("generative", "both"):
            report["generative"] = {
                language: evaluate_generative(network, tokenizer, dataset, language).as_json() for language in LANGUAGES
            }
        if arguments.reading == "outlines":
            report["outlines"] = evaluate_outlines(network, tokenizer, dataset)
    except DatasetError as error:
        print(f"error: {arguments.data}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(report))  # noqa: T201
    dropped, allowed = report.get("drop", {}).values(), 0.0 if arguments.max_drop is None else arguments.max_drop
    if not all(drop <= allowed for drop in dropped):  # NaN is no pass
        fault = f"mAP@0.5 lies {max(dropped):.4f} below that of {arguments.reference}, at most {allowed:g} is allowed"
        print(f"refused: {fault}; train longer, or replay more of what was learned", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
