import random
from pathlib import Path

import numpy as np

from export.contract.defects import BARE_BOARD
from training.data.dataset import Dataset, Sample
from training.learning.sentences import Sentences, sentences_of

TEXTS = ("a black ring on a chip", "a black spot on a chip", "a white streak beside a joint", "芯片表面的黑色圆环")
KNOWN = Sentences({text: frozenset({1}) for text in TEXTS})


def test_a_near_miss_differs_as_little_as_any_and_is_not_carried() -> None:
    rng = random.Random(0)
    assert KNOWN.near_miss(TEXTS[0], {TEXTS[0]}, rng) == TEXTS[1]
    assert KNOWN.near_miss(TEXTS[0], {TEXTS[0], TEXTS[1]}, rng) == TEXTS[2]


def test_a_sentence_without_another_in_its_language_has_no_near_miss() -> None:
    assert KNOWN.near_miss(TEXTS[3], {TEXTS[3]}, random.Random(0)) is None
    assert Sentences({}).near_miss("a ring", (), random.Random(0)) is None


def test_a_sentence_in_another_spelling_is_no_near_miss() -> None:
    other = "A black ring on a chip"
    known = Sentences({text: frozenset({1}) for text in (*TEXTS, other)})
    assert known.near_miss(other, {TEXTS[0]}, random.Random(0)) == TEXTS[1]


def test_sentences_of_a_dataset_are_those_of_several_defects_with_their_classes() -> None:
    sample = Sample(
        Path("board.png"),
        (64, 64),
        np.zeros((4, 4), np.float32),
        np.array([0, 2, 1, 0]),
        ((), (), (), ()),
        (("a ring", "a halo"), ("a ring",), (), ("a halo", "a ring")),
    )
    counted_twice = Dataset(BARE_BOARD, (sample, sample))
    assert sentences_of(counted_twice).classes == {"a ring": frozenset({0, 2})}
