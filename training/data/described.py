"""A dataset in which every description is a class of its own: what zero-shot detection is judged on."""

from dataclasses import replace

import numpy as np

from export.contract.defects import Defect
from training.data.dataset import Dataset, DatasetError, is_chinese

Boxes = tuple[tuple[int, int], ...]  # each by its sample and its row there


def by_description(dataset: Dataset, category_id: str) -> Dataset:
    """The boxes of one category, a class for each sentence that they carry, asked for by it.

    Sentences of the very same boxes, as in two languages, are one class, whose names they are. A box of several
    classes stands there once for each: whichever is asked for, it is right. Boxes of other categories, and those
    without a sentence, are left out: nobody can ask for them.

    Raises:
        DatasetError: there is no such category, or none of its boxes carries a sentence.
    """
    ids = [category.id for category in dataset.categories]
    if category_id not in ids:
        raise DatasetError(f"there is no category {category_id!r}; known are {', '.join(ids)}")
    carriers: dict[str, list[tuple[int, int]]] = {}  # by sentence
    for number, sample in enumerate(dataset.samples):
        for row in np.flatnonzero(sample.class_ids == ids.index(category_id)).tolist():
            for text in dict.fromkeys(sample.descriptions[row]):
                carriers.setdefault(text, []).append((number, row))
    if not carriers:
        raise DatasetError(f"no box of category {category_id!r} carries a sentence; give it description_ids")
    classes: dict[Boxes, list[str]] = {}
    for text, carrying in carriers.items():
        classes.setdefault(tuple(carrying), []).append(text)
    shown: list[list[tuple[int, int]]] = [[] for _ in dataset.samples]  # rows and classes
    for class_id, boxes in enumerate(classes):
        for number, row in boxes:
            shown[number].append((row, class_id))
    samples = []
    for sample, pairs in zip(dataset.samples, shown, strict=True):
        rows, class_ids = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        samples.append(
            replace(
                sample,
                boxes_xyxy=sample.boxes_xyxy[rows],
                class_ids=class_ids,
                polygons=tuple(sample.polygons[row] for row in rows),
                descriptions=tuple(sample.descriptions[row] for row in rows),
            )
        )
    categories = tuple(
        Defect(
            texts[0],
            tuple(text for text in texts if not is_chinese(text)),
            tuple(text for text in texts if is_chinese(text)),
            (),
            (),
        )
        for texts in classes.values()
    )
    return Dataset(categories, tuple(samples))
