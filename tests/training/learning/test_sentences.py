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


def test_sentences_of_a_dataset_have_the_classes_that_carry_them() -> None:
    sample = Sample(
        Path("board.png"),
        (64, 64),
        np.zeros((3, 4), np.float32),
        np.array([0, 2, 1]),
        ((), (), ()),
        (("a ring", "a halo"), ("a ring",), ()),
    )
    assert sentences_of(Dataset(BARE_BOARD, (sample,))).classes == {
        "a ring": frozenset({0, 2}),
        "a halo": frozenset({0}),
    }
