"""The few-shot benchmark's choice of examples: exactly so many of each look, everything else still labelled."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from export.contract.defects import Defect
from tests.benchmarks.few_shot import choose_examples, looks_of
from training.data.dataset import Dataset, DatasetError, Sample

SCRATCH, BLEMISH = (Defect(name, (name,), (), (), ()) for name in ("scratch", "blemish"))
RING, SPOT, RARE = ("a ring", "一个环"), ("a spot", "一个点"), ("a rare one", "罕见")
SCRATCHED = ("a scratch on the board",)


def picture(number: int, *looks: tuple[str, ...]) -> Sample:
    """A picture of a described scratch and blemishes of these looks."""
    count = len(looks) + 1
    boxes = np.arange(count, dtype=np.float32)[:, None] * 20 + np.array([0, 0, 10, 10], np.float32)
    class_ids = np.array([0] + [1] * len(looks), np.int64)
    return Sample(Path(f"{number}.jpg"), (640, 640), boxes, class_ids, ((),) * count, (SCRATCHED, *looks))


BOARDS = Dataset(
    (SCRATCH, BLEMISH),
    (picture(0, RING, RING, RARE), picture(1), picture(2, SPOT, RING), picture(3, RING, SPOT), picture(4, SPOT)),
)


def test_looks_of_counts_blemishes_only() -> None:
    assert looks_of(BOARDS) == Counter({RING: 4, SPOT: 3, RARE: 1})


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_choose_examples_has_exactly_so_many_of_each_look(shots: int) -> None:
    assert looks_of(choose_examples(BOARDS, [RING, SPOT], shots)) == Counter({RING: shots, SPOT: shots})


def test_choose_examples_keeps_every_other_label() -> None:
    chosen = choose_examples(BOARDS, [RING, SPOT], 1)
    assert [sample.path.name for sample in chosen.samples] == ["0.jpg", "2.jpg"]
    assert [sample.descriptions for sample in chosen.samples] == [(SCRATCHED, RING, (), ()), (SCRATCHED, SPOT, ())]
    for sample, whole in zip(chosen.samples, (BOARDS.samples[0], BOARDS.samples[2]), strict=True):
        np.testing.assert_array_equal(sample.boxes_xyxy, whole.boxes_xyxy)
        np.testing.assert_array_equal(sample.class_ids, whole.class_ids)


def test_choose_examples_of_fewer_shots_are_among_those_of_more() -> None:
    few, more = (choose_examples(BOARDS, [RING, SPOT], shots) for shots in (1, 3))
    described = [
        {(s.path, row) for s in data.samples for row, t in enumerate(s.descriptions) if t} for data in (few, more)
    ]
    assert described[0] < described[1]


def test_choose_examples_names_every_look_that_is_too_rare() -> None:
    with pytest.raises(DatasetError, match=r"'a spot' 3 times, 'a rare one' 1 times, expected 4"):
        choose_examples(BOARDS, [RING, SPOT, RARE], 4)
