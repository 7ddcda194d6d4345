"""What a network reports on labelled pictures; knows nothing of thresholds."""

import sys
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from training.calibration import Boxes
from training.data.dataset import Dataset
from training.data.images import read_image
from training.evaluate import NMS_THRESHOLD, SCORE_THRESHOLD, class_names
from training.metrics import MAX_DETECTIONS, Truth, right_boxes
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES
from training.reading.detect import TileOutputs, embed_prompts, merge_looks, read_tiles


def read_samples(
    network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset, magnifications: Sequence[float]
) -> list[list[TileOutputs]]:
    """The looks at each picture, one for each magnification; every class is asked for by its name in every language."""
    texts = [name for language in LANGUAGES for name in class_names(dataset, language)]
    embeddings = embed_prompts(network, tokenizer, texts)
    progress = tqdm(dataset.samples, desc="grounding", unit="image", file=sys.stderr, leave=False, disable=None)
    return [
        [read_tiles(network, embeddings, image, magnification) for magnification in magnifications]
        for image in (read_image(sample.path) for sample in progress)
    ]


def merge_samples(dataset: Dataset, outputs: Sequence[Sequence[TileOutputs]]) -> Boxes:
    """The boxes that all languages report, from SCORE_THRESHOLD up, as evaluate merges them."""
    rows: list[Boxes] = []
    count = len(dataset.categories)
    for board_id, (sample, looks) in enumerate(zip(dataset.samples, outputs, strict=True)):
        truth = Truth(sample.boxes_xyxy, sample.class_ids)
        for index in range(len(LANGUAGES)):
            found = merge_looks(
                looks,
                score_threshold=SCORE_THRESHOLD,
                nms_threshold=NMS_THRESHOLD,
                max_detections=MAX_DETECTIONS,
                prompts=slice(index * count, (index + 1) * count),
            )
            rows.append(Boxes(np.full(len(found), board_id), found.class_ids, found.scores, right_boxes(truth, found)))
    return Boxes(
        np.concatenate([row.board_ids for row in rows]),
        np.concatenate([row.class_ids for row in rows]),
        np.concatenate([row.scores for row in rows]),
        np.concatenate([row.right for row in rows]),
    )
