"""One number for all that a run learns from and is judged by, to tell whether labels have changed between sittings."""

import hashlib
from dataclasses import astuple

from training.data.dataset import Dataset


def label_digest(*datasets: Dataset) -> str:
    """SHA-256 over categories, boxes, outlines, sentences and paths; pixels are not looked at."""
    digest = hashlib.sha256()
    for dataset in datasets:
        digest.update(repr([astuple(category) for category in dataset.categories]).encode())
        for sample in dataset.samples:
            outlines = [[polygon.tolist() for polygon in polygons] for polygons in sample.polygons]
            words = (str(sample.path), sample.descriptions, sample.image_descriptions, sample.group, outlines)
            digest.update(repr(words).encode())
            digest.update(sample.boxes_xyxy.tobytes() + sample.class_ids.tobytes())
    return digest.hexdigest()
