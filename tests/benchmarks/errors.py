"""What each kind of wrong box costs: mAP@0.5 as it is, and with one kind after the other mended.

    python -m tests.benchmarks.errors --checkpoint C --data data/synth_val/annotations.json
    python -m tests.benchmarks.errors --checkpoint C --data data/fewshot_test/annotations.json --described blemish

The kinds are those of Bolya et al., TIDE, 2020, by a box's best overlap with the labels: `place`, with a label of its
own class between IoU 0.1 and 0.5, mended by putting it there; `class`, with one of another class by 0.1 or more, and
`sound`, with none, both mended by taking them away. With --described the classes are the descriptions of a category,
and boxes on defects of other categories are `sound`. Progress goes to stderr; the last line of stdout is one JSON
object.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections, iou_matrix
from tests.benchmarks.origin import origin
from training.data.dataset import Dataset, DatasetError
from training.data.described import by_description
from training.data.source import read_judging
from training.evaluate import find_grounding, judge
from training.metrics import Truth
from training.network.checkpoint import CheckpointError
from training.prompts import LANGUAGES
from training.reading.checkpoint import open_checkpoint
from training.reading.magnification import magnification

FOUND, NEAR = 0.5, 0.1  # IoU
KINDS = ("place", "class", "sound")


def kinds_of(truth: Truth, found: Detections) -> tuple[list[str], NDArray[np.float32]]:
    """Of each box (N,) `right` or its kind of error, and the label (N, 4) of its class that it overlaps most."""
    if not len(truth.class_ids):
        return ["sound"] * len(found), found.boxes_xyxy
    overlaps = iou_matrix(found.boxes_xyxy, truth.boxes_xyxy)  # (N, M)
    own = np.where(found.class_ids[:, None] == truth.class_ids, overlaps, -1.0)
    kinds = [
        "right" if best >= FOUND else "place" if best >= NEAR else "class" if any_class >= NEAR else "sound"
        for best, any_class in zip(own.max(axis=1), overlaps.max(axis=1), strict=True)
    ]
    return kinds, truth.boxes_xyxy[own.argmax(axis=1)]


def mend(kind: str, truth: Truth, found: Detections) -> Detections:
    """The boxes without this kind of error."""
    kinds, places = kinds_of(truth, found)
    wrong = np.array([each == kind for each in kinds], bool)
    if kind == "place":
        boxes = np.where(wrong[:, None], places, found.boxes_xyxy)
        return Detections(boxes, found.scores, found.class_ids)
    return Detections(found.boxes_xyxy[~wrong], found.scores[~wrong], found.class_ids[~wrong])


def report_of(dataset: Dataset, found: Sequence[Detections]) -> dict[str, Any]:
    """mAP@0.5 as it is and by mended kind, and how many boxes of each kind there are."""
    truths = [Truth(sample.boxes_xyxy, sample.class_ids) for sample in dataset.samples]
    pairs = list(zip(truths, found, strict=True))
    return {
        "map50": round(judge(dataset, found).map50, 4),
        "map50_mended": {
            kind: round(judge(dataset, [mend(kind, truth, each) for truth, each in pairs]).map50, 4) for kind in KINDS
        },
        "boxes": Counter(kind for truth, each in pairs for kind in kinds_of(truth, each)[0]),
    }


def main() -> int:
    """Runs the command line; 2 for a checkpoint or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    parser.add_argument("--described", metavar="CATEGORY", help="ask for each description of this category instead")
    parser.add_argument("--magnification", type=magnification, nargs="+", default=[1.0])
    arguments, made = parser.parse_args(), origin()
    try:
        network, tokenizer, manifest = open_checkpoint(arguments.checkpoint)
        dataset = read_judging(arguments.data, arguments.split)
        if arguments.described:
            dataset = by_description(dataset, arguments.described)
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    found = find_grounding(network, tokenizer, dataset, LANGUAGES, arguments.magnification)
    report = {language: report_of(dataset, each) for language, each in found.items()}
    print(json.dumps({**made, "checkpoint": manifest["name"], "images": len(dataset.samples), **report}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
