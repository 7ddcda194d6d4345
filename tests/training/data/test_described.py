from pathlib import Path

import numpy as np
import pytest

from export.contract.defects import Defect
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.described import by_description

RING, SPOT = ("a black ring", "黑色圆环"), ("a brown spot",)
DATASET = Dataset(
    (Defect("scratch", ("scratch",), (), (), ()), Defect("blemish", ("blemish",), (), (), ())),
    (
        Sample(
            path=Path("a.png"),
            resolution_wh=(100, 100),
            boxes_xyxy=np.arange(16, dtype=np.float32).reshape(4, 4),
            class_ids=np.array([1, 0, 1, 1]),
            polygons=((),) * 4,
            descriptions=(SPOT, ("a scratch",), RING, ()),
        ),
        Sample(Path("b.png"), (100, 100), np.ones((1, 4), np.float32), np.array([1]), ((),), (SPOT,)),
    ),
)


def test_every_description_of_a_category_becomes_a_class_with_its_sentences_as_names() -> None:
    described = by_description(DATASET, "blemish")
    assert [(c.names_en, c.names_zh) for c in described.categories] == [(SPOT, ()), (RING[:1], RING[1:])]
    first, second = described.samples
    assert first.class_ids.tolist() == [0, 1]
    np.testing.assert_array_equal(first.boxes_xyxy, DATASET.samples[0].boxes_xyxy[[0, 2]])
    assert second.class_ids.tolist() == [0]


def test_a_category_that_is_not_there_or_not_described_is_named() -> None:
    with pytest.raises(DatasetError, match="corrosion"):
        by_description(DATASET, "corrosion")
    bare = Dataset(DATASET.categories, DATASET.samples[:0])
    with pytest.raises(DatasetError, match="blemish"):
        by_description(bare, "blemish")
