"""Masks of labelled boxes, as a checkpoint's generative reading writes them and as the gateway makes them without it.

    python -m tests.benchmarks.outlines --checkpoint C --data data/synth_val/annotations.json
    python -m tests.benchmarks.outlines --checkpoint C --data ../shared/data/deeppcb --split train --group 50600

The boxes are given. Progress goes to stderr; stdout is one JSON line: the mean IoU of each with the labelled polygon,
of the box itself, and of the gateway's, where a box without a mask counts 0.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gateway.pictures.masks import mask_without_model
from tests.benchmarks.origin import origin
from training.data.dataset import Dataset
from training.data.images import read_image
from training.data.outline import Polygon, largest, overlap, trace
from training.data.source import read_dataset
from training.evaluate import evaluate_outlines
from training.network.checkpoint import load_checkpoint


def without_model(dataset: Dataset) -> dict[str, Any]:
    """Mean IoU of the gateway's masks and of the boxes, over the boxes that evaluate_outlines judges."""
    found: list[float] = []
    boxes: list[float] = []
    for sample in tqdm(dataset.samples, desc="gateway", unit="image", file=sys.stderr, disable=None):
        image = read_image(sample.path)
        rgb = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
        for (x1, y1, x2, y2), polygons in zip(sample.boxes_xyxy.tolist(), sample.polygons, strict=True):
            if not polygons:
                continue
            truth, (_, piece) = largest(polygons), mask_without_model(rgb, (x1, y1, x2, y2))
            box: Polygon = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
            boxes.append(overlap(truth, box))
            if piece is None:
                found.append(0.0)
                continue
            corner = np.array([piece.left, piece.top], np.float32)
            found.append(overlap(truth, largest(trace(piece.inside.astype(np.uint8))) + corner))
    return {"gateway_mean_iou": round(float(np.mean(found)), 4), "box_mean_iou": round(float(np.mean(boxes)), 4)}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help="COCO file with segmentations, or DeepPCB folder with templates"
    )
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    parser.add_argument("--group", help="only these boards, as training holds them out")
    arguments = parser.parse_args()
    network, tokenizer, manifest = load_checkpoint(arguments.checkpoint)
    dataset = read_dataset(arguments.data, arguments.split)
    judging = [sample for sample in dataset.samples if arguments.group in (None, sample.group)]
    dataset = replace(dataset, samples=tuple(judging))
    report = {
        **origin(),
        "checkpoint": manifest["name"],
        "model": evaluate_outlines(network, tokenizer, dataset),
        **without_model(dataset),
    }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
