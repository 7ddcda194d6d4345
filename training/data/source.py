"""A dataset by its path: a COCO file with descriptions, or a DeepPCB folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from export.contract.defects import Defect
from training.data.coco import read_coco
from training.data.dataset import Dataset
from training.data.deeppcb import read_deeppcb


def read_dataset(path: Path, split: str) -> Dataset:
    """Reads a COCO file, or `split` of a DeepPCB folder.

    Raises:
        DatasetError: names every fault.
    """
    return read_coco(path) if path.suffix == ".json" else read_deeppcb(path, split)


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """One dataset of all samples; categories of one id become one, with the words of the first that has it."""
    categories: dict[str, Defect] = {}
    for each in datasets:
        for category in each.categories:
            categories.setdefault(category.id, category)
    places = {category_id: index for index, category_id in enumerate(categories)}
    samples = []
    for each in datasets:
        moved = [places[category.id] for category in each.categories]
        for sample in each.samples:
            class_ids = [moved[class_id] for class_id in sample.class_ids]
            samples.append(replace(sample, class_ids=np.array(class_ids, np.int64)))
    return Dataset(tuple(categories.values()), tuple(samples))
