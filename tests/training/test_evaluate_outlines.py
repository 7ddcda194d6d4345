"""What judges the outlines of the generative reading."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import training.evaluate
from export.contract.defects import BARE_BOARD
from training.data.dataset import Dataset, DatasetError, Sample
from training.evaluate import evaluate_outlines
from training.network.checkpoint import load_checkpoint


def picture(folder: Path, *polygons: np.ndarray) -> Dataset:
    """One of 300 x 200 pixels with a box around each polygon, of a class of its own."""
    Image.new("RGB", (300, 200)).save(folder / "board.png")
    boxes = np.array([[*points.min(axis=0), *points.max(axis=0)] for points in polygons], np.float32)
    shapes = tuple((points.astype(np.float32),) for points in polygons)
    numbers = np.arange(len(polygons))
    sample = Sample(folder / "board.png", (300, 200), boxes, numbers, shapes, ((),) * len(polygons))
    return Dataset(BARE_BOARD, (sample,))


def test_outlines_are_judged_by_class_where_they_lie_in_the_picture(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that outlines each region by the region itself: right for a square, half right for a triangle."""
    square = np.array([[200, 20], [240, 20], [240, 60], [200, 60]])
    triangle = np.array([[10, 150], [50, 150], [10, 190]])
    wide = np.array([[0, 0], [299, 0], [299, 9], [0, 9]])  # wider than a tile of 128 pixels

    def corners(*arguments: object) -> list[np.ndarray]:
        return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) for x1, y1, x2, y2 in np.asarray(arguments[3])]

    monkeypatch.setattr(training.evaluate, "generate_outlines", corners)
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    monkeypatch.setattr(training.evaluate, "ANSWERS_PER_BATCH", 2)  # three boxes: each stays with its own answer
    figures = evaluate_outlines(network, tokenizer, picture(tmp_path, square, triangle, wide))
    assert figures["boxes"] == 3
    assert figures["mean_iou_by_class"]["open"] == 1
    assert figures["mean_iou_by_class"]["short"] == pytest.approx(0.5, abs=0.02)
    assert figures["mean_iou_by_class"]["mousebite"] == 1
    assert figures["mean_iou"] == pytest.approx(2.5 / 3, abs=0.01)


def test_a_dataset_without_polygons_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    with pytest.raises(DatasetError, match="polygon"):
        evaluate_outlines(network, tokenizer, Dataset(BARE_BOARD, ()))
