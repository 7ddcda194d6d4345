"""A dataset in which every description is a class of its own: what zero-shot detection is judged on."""

from dataclasses import replace

import numpy as np

from export.contract.defects import Defect
from training.data.dataset import Dataset, DatasetError, is_chinese


def by_description(dataset: Dataset, category_id: str) -> Dataset:
    """The boxes of one category, a class for each set of sentences that they carry, asked for by its sentences.

    Boxes of other categories, and those without a sentence, are left out: nobody can ask for them.

    Raises:
        DatasetError: there is no such category, or none of its boxes carries a sentence.
    """
    ids = [category.id for category in dataset.categories]
    if category_id not in ids:
        raise DatasetError(f"there is no category {category_id!r}; known are {', '.join(ids)}")
    places: dict[tuple[str, ...], int] = {}
    samples = []
    for sample in dataset.samples:
        keep = [
            index
            for index, class_id in enumerate(sample.class_ids)
            if class_id == ids.index(category_id) and sample.descriptions[index]
        ]
        descriptions = tuple(sample.descriptions[index] for index in keep)
        samples.append(
            replace(
                sample,
                boxes_xyxy=sample.boxes_xyxy[keep],
                class_ids=np.array([places.setdefault(texts, len(places)) for texts in descriptions], np.int64),
                polygons=tuple(sample.polygons[index] for index in keep),
                descriptions=descriptions,
            )
        )
    if not places:
        raise DatasetError(f"no box of category {category_id!r} carries a sentence; give it description_ids")
    classes = tuple(
        Defect(
            texts[0],
            tuple(text for text in texts if not is_chinese(text)),
            tuple(text for text in texts if is_chinese(text)),
            (),
            (),
        )
        for texts in places
    )
    return Dataset(classes, tuple(samples))
