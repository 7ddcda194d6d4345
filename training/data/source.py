"""A dataset by its path: a COCO file with descriptions, or a DeepPCB folder."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from export.contract.defects import Defect, normalise
from training.data.coco import read_coco
from training.data.dataset import Dataset, DatasetError
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
        DatasetError: names every fault, or says that no picture has a box.
    """
    dataset = read_dataset(path, split)
    samples = tuple(sample for sample in dataset.samples if sample.fully_labelled)
    if not any(len(sample.class_ids) for sample in samples):
        raise DatasetError(f"{path}: no picture shows a defect with a box; there is nothing to judge by")
    return Dataset(dataset.categories, samples)


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """One dataset of all samples; categories of one id become one, with the words of all, the first one's first.

    Raises:
        DatasetError: categories of different ids share a name; the one would be taught against the other.
    """
    categories: dict[str, Defect] = {}
    for each in datasets:
        for category in each.categories:
            known = categories.get(category.id, category)
            categories[category.id] = Defect(
                category.id,
                *(tuple(dict.fromkeys(getattr(known, name) + getattr(category, name))) for name in WORDS),
            )
    _check_names(categories.values())
    places = {category_id: index for index, category_id in enumerate(categories)}
    samples = []
    for each in datasets:
        moved = [places[category.id] for category in each.categories]
        for sample in each.samples:
            class_ids = [moved[class_id] for class_id in sample.class_ids]
            samples.append(replace(sample, class_ids=np.array(class_ids, np.int64)))
    return Dataset(tuple(categories.values()), tuple(samples))


def _check_names(categories: Iterable[Defect]) -> None:
    owners: dict[str, str] = {}
    for category in categories:
        for name in category.names_en + category.names_zh:
            owner = owners.setdefault(normalise(name), category.id)
            if owner != category.id:
                raise DatasetError(
                    f"the categories {owner!r} and {category.id!r} are both called {name!r}; give them one `name` if "
                    "they are one class, and different `names` if not"
                )
