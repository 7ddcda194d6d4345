"""A dataset by its path: a COCO file with descriptions, or a DeepPCB folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from export.contract.defects import Defect
from training.data.coco import read_coco
from training.data.dataset import Dataset
from training.data.deeppcb import read_deeppcb

WORDS = ("names_en", "names_zh", "descriptions_en", "descriptions_zh")


def read_dataset(path: Path, split: str) -> Dataset:
    """Reads a COCO file, or `split` of a DeepPCB folder.

    Raises:
        DatasetError: names every fault.
    """
    return read_coco(path) if path.suffix == ".json" else read_deeppcb(path, split)


def read_judging(path: Path, split: str) -> Dataset:
    """The pictures of a dataset that can judge: those with sparse labels, whose boxes are not complete, are left out.

    Raises:
        DatasetError: names every fault.
    """
    dataset = read_dataset(path, split)
    return Dataset(dataset.categories, tuple(sample for sample in dataset.samples if sample.fully_labelled))


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """One dataset of all samples; categories of one id become one, with the words of all, the first one's first."""
    categories: dict[str, Defect] = {}
    for each in datasets:
        for category in each.categories:
            known = categories.get(category.id, category)
            categories[category.id] = Defect(
                category.id,
                *(tuple(dict.fromkeys(getattr(known, name) + getattr(category, name))) for name in WORDS),
            )
    places = {category_id: index for index, category_id in enumerate(categories)}
    samples = []
    for each in datasets:
        moved = [places[category.id] for category in each.categories]
        for sample in each.samples:
            class_ids = [moved[class_id] for class_id in sample.class_ids]
            samples.append(replace(sample, class_ids=np.array(class_ids, np.int64)))
    return Dataset(tuple(categories.values()), tuple(samples))
