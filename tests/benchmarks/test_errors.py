"""Each kind of wrong box is told from the others, and mending it leaves the rest as it was."""

import numpy as np

from export.contract.boxes import Detections
from tests.benchmarks.errors import KINDS, kinds_of, mend
from training.metrics import Truth

TRUTH = Truth(np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32), np.array([0, 1]))
BOXES = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60], [80, 80, 90, 90]], np.float32)
FOUND = Detections(BOXES, np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([0, 0, 0, 1]))


def test_kinds_are_told_by_the_best_overlap() -> None:
    kinds, places = kinds_of(TRUTH, FOUND)
    assert kinds == ["right", "place", "class", "sound"]
    assert places[1].tolist() == [0, 0, 10, 10]


def test_mending_one_kind_leaves_the_others() -> None:
    for kind in KINDS:
        kinds, _ = kinds_of(TRUTH, mend(kind, TRUTH, FOUND))
        expected = {"place": ["right", "right", "class", "sound"]}
        assert kinds == expected.get(kind, [each for each in ("right", "place", "class", "sound") if each != kind])


def test_on_a_sound_board_every_box_lies_on_sound_places() -> None:
    sound = Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert kinds_of(sound, FOUND)[0] == ["sound"] * 4
    assert len(mend("sound", sound, FOUND)) == 0
    assert len(mend("place", sound, FOUND)) == 4
