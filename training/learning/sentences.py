"""The sentences about single defects that a dataset knows, and which of them is easily taken for another."""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping

from training.data.dataset import Dataset, is_chinese

CONSIDERED = 64  # sentences, of which the most alike is chosen


class Sentences:
    """The sentences that defects carry.

    `classes` are those of the defects that carry a sentence, as indices of the dataset's categories.
    """

    def __init__(self, classes: Mapping[str, frozenset[int]]) -> None:
        self.classes = classes
        self._own: dict[bool, list[str]] = {True: [], False: []}
        for text in sorted(classes):
            self._own[is_chinese(text)].append(text)

    def near_miss(self, text: str, carried: Collection[str], rng: random.Random) -> str | None:
        """A sentence in the language of `text`, as like it as any of CONSIDERED, that is none of `carried`."""
        known = self._own[is_chinese(text)]
        others = [other for other in rng.sample(known, min(len(known), CONSIDERED)) if other not in carried]
        pairs = _pairs(text)
        return max(others, key=lambda other: len(pairs & _pairs(other)) / len(pairs | _pairs(other)), default=None)


def _pairs(text: str) -> set[str]:
    """The characters of a text two by two: words in English, and what stands for words in Chinese."""
    return {text[start : start + 2] for start in range(max(1, len(text) - 1))}


def sentences_of(dataset: Dataset) -> Sentences:
    """Those that a dataset's defects carry."""
    classes: dict[str, set[int]] = defaultdict(set)
    for sample in dataset.samples:
        for class_id, texts in zip(sample.class_ids.tolist(), sample.descriptions, strict=True):
            for text in texts:
                classes[text].add(class_id)
    return Sentences({text: frozenset(ids) for text, ids in classes.items()})
