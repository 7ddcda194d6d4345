"""The sentences about single defects that a dataset knows, and which of them is easily taken for another."""

import random
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping

from training.data.dataset import Dataset, is_chinese

CONSIDERED = 64  # sentences, of which the most alike is chosen
CARRIED = 3  # defects that carry a sentence at least; one that somebody wrote once may be another's paraphrase


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
        known, said = self._own[is_chinese(text)], set(map(_spelled, carried))
        others = [other for other in rng.sample(known, min(len(known), CONSIDERED)) if _spelled(other) not in said]
        pairs = _pairs(text)
        return max(others, key=lambda other: len(pairs & _pairs(other)) / len(pairs | _pairs(other)), default=None)


def _spelled(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _pairs(text: str) -> set[str]:
    """The characters of a text two by two: words in English, and what stands for words in Chinese."""
    return {text[start : start + 2] for start in range(max(1, len(text) - 1))}


def sentences_of(dataset: Dataset) -> Sentences:
    """Those that CARRIED of a dataset's defects carry at least, a picture that counts several times once."""
    carrying: dict[str, list[int]] = defaultdict(list)
    for sample in {sample.path: sample for sample in dataset.samples}.values():
        for class_id, texts in zip(sample.class_ids.tolist(), sample.descriptions, strict=True):
            for text in texts:
                carrying[text].append(class_id)
    return Sentences({text: frozenset(ids) for text, ids in carrying.items() if len(ids) >= CARRIED})
