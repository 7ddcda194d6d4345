from pathlib import Path

import numpy as np
import pytest

from export.contract.boxes import Detections
from export.contract.defects import Defect
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.described import by_description
from training.metrics import Truth, evaluate_detections

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


def test_a_box_answers_to_each_of_its_sentences() -> None:
    """Ten boxes of one sentence and ten of it and another: what finds each for what it is asked for is perfect."""
    boxes = np.arange(20, dtype=np.float32)[:, None] * 30 + np.float32([0, 0, 20, 20])
    descriptions = (("a black ring",),) * 10 + (("黑色圆环", "a black ring"),) * 10
    sample = Sample(Path("a.png"), (700, 700), boxes, np.ones(20, np.int64), ((),) * 20, descriptions)
    described = by_description(Dataset(DATASET.categories, (sample,)), "blemish")
    assert [category.id for category in described.categories] == ["a black ring", "黑色圆环"]
    (shown,) = described.samples
    assert np.bincount(shown.class_ids).tolist() == [20, 10]
    assert all(
        described.categories[own].id in texts for own, texts in zip(shown.class_ids, shown.descriptions, strict=True)
    )
    truth = Truth(shown.boxes_xyxy, shown.class_ids)
    found = Detections(shown.boxes_xyxy, np.full(30, 0.9, np.float32), shown.class_ids)
    figures = evaluate_detections([truth], [found], [category.id for category in described.categories])
    assert (figures.map50, figures.best_f1) == pytest.approx((1, 1))


def test_a_category_that_is_not_there_or_not_described_is_named() -> None:
    with pytest.raises(DatasetError, match="corrosion"):
        by_description(DATASET, "corrosion")
    bare = Dataset(DATASET.categories, DATASET.samples[:0])
    with pytest.raises(DatasetError, match="blemish"):
        by_description(bare, "blemish")
