"""Masks from pixels, against shapes drawn here and pycocotools' reading of run lengths."""

import json
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from export.contract.defects import BARE_BOARD
from gateway.answer import Box, Detection
from gateway.errors import DeadlineError
from gateway.pictures.masks import MAX_SIDE, MOST_FINE, Piece, add_masks, fill_outline, find_piece
from gateway.request.deadline import Deadline
from tests.conftest import BOARD


def iou(found: Piece | None, truth: NDArray[np.bool_]) -> float:
    if found is None:
        return 0.0
    everywhere = np.zeros_like(truth)
    height, width = found.inside.shape
    everywhere[found.top : found.top + height, found.left : found.left + width] = found.inside
    return float((everywhere & truth).sum() / (everywhere | truth).sum())


@pytest.mark.parametrize(("level", "around"), [(0, 255), (255, 0), (90, 130)])
@pytest.mark.parametrize("margin", [6, 15])
def test_a_spot_of_any_level_is_outlined(level: int, around: int, margin: int) -> None:
    ys, xs = np.mgrid[:200, :200]
    truth = (xs - 100) ** 2 / 200 + (ys - 90) ** 2 / 60 < 1
    pixels = np.full((200, 200, 3), around, np.uint8)
    pixels[truth] = level
    box = (85.0 - margin, 82.0 - margin, 115.0 + margin, 98.0 + margin)
    assert iou(find_piece(pixels, box), truth) > 0.9


def test_a_gap_in_a_trace_is_what_is_missing_not_the_trace() -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[95:107] = 200
    truth = np.zeros((200, 200), bool)
    truth[95:107, 97:105] = True
    pixels[truth] = 0
    assert iou(find_piece(pixels, (85, 86, 117, 116)), truth) > 0.6


def test_a_spot_of_another_colour_but_the_same_lightness_is_outlined() -> None:
    pixels = np.full((100, 100, 3), (60, 120, 60), np.uint8)
    truth = np.zeros((100, 100), bool)
    truth[40:52, 45:60] = True
    pixels[truth] = (150, 85, 60)
    assert iou(find_piece(pixels, (38, 34, 67, 58)), truth) > 0.8


@pytest.mark.parametrize(("width", "height"), [(3000, 11), (11, 3000)])
def test_a_sliver_of_a_picture_has_no_outline(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[height // 2 :, width // 2 :] = 200
    assert find_piece(pixels, (0.0, 0.0, float(width), float(height))) is None


def test_a_large_box_is_outlined_in_less_detail() -> None:
    ys, xs = np.mgrid[:1000, :1200]
    truth = (xs - 600) ** 2 + (ys - 500) ** 2 < 150**2
    pixels = np.where(truth[..., None], 40, 220).astype(np.uint8).repeat(3, axis=2)
    box = (600 - 2 * MAX_SIDE, 500 - 2 * MAX_SIDE, 600 + 2 * MAX_SIDE, 500 + 2 * MAX_SIDE)
    assert iou(find_piece(pixels, box), truth) > 0.95


@pytest.mark.parametrize(
    "box", [(10, 10, 40, 40), (0, 0, 1, 1), (10.2, 10.2, 10.4, 10.4), (195, 195, 230, 230), (5, 5, 5, 9)]
)
def test_nothing_stands_out_of_an_even_surface(box: tuple[float, float, float, float]) -> None:
    assert find_piece(np.full((200, 200, 3), 128, np.uint8), box) is None


def scene(*levels: int, noise: float = 0.0) -> NDArray[np.uint8]:
    """A spot of the first level on stripes of the others."""
    rng = np.random.default_rng(0)
    pixels = np.repeat(np.array(levels[1:]), 20)[np.arange(200) % (20 * len(levels[1:]))]
    rows = np.tile(pixels, (200, 1)).astype(np.float64)
    rows[90:110, 90:110] = levels[0]
    return np.clip(rows + rng.normal(0, noise, rows.shape), 0, 255)[..., None].repeat(3, 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "source"),
    [
        (scene(255, 0), "pixels"),
        (scene(170, 70, noise=6), "pixels"),
        (scene(255, 0, 100, 180), "box"),
        (scene(90, 90, noise=6), "box"),
    ],
    ids=["two levels", "two levels and noise", "several levels", "noise alone"],
)
@pytest.mark.parametrize("scale", [1, 6])
def test_only_of_two_levels_the_mask_is_a_piece_of_the_box(pixels: NDArray[np.uint8], source: str, scale: int) -> None:
    pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    box = Box(x1=80 * scale, y1=80 * scale, x2=120 * scale, y2=120 * scale)
    found = Detection(id="1", defect=None, severity=None, prompt="", score=1, box=box)
    add_masks(pixels, [found], [None], Deadline.within(60))
    assert found.mask is not None
    assert found.mask.source == source
    area = sum(found.mask.rle.counts[1::2]) / scale**2
    assert area == (1600 if source == "box" else pytest.approx(400, rel=0.1))


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_read_by_pycocotools_as_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.random((9, 7)) > 0.5
    inside[rng.integers(9), rng.integers(7)] = True
    left, top = int(rng.integers(0, 14)), int(rng.integers(0, 22))
    width, height = 20, 30
    truth = np.zeros((height, width), np.uint8)
    truth[top : top + 9, left : left + 7] = inside[: height - top, : width - left]
    piece = Piece(inside[: height - top, : width - left], left, top)
    counts = piece.run_lengths((width, height))
    encoded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    np.testing.assert_array_equal(coco.decode(encoded), truth)
    assert counts == coco_counts(truth)


@pytest.mark.parametrize("sound", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("left", "width"), [(0, 20), (3, 20), (0, 7)])
def test_run_lengths_go_on_from_column_to_column_where_a_box_is_as_high_as_the_image(
    left: int, width: int, sound: float
) -> None:
    inside = np.random.default_rng(0).random((30, 7)) >= sound
    inside[4, 2] = True
    truth = np.zeros((30, width), np.uint8)
    truth[:, left : left + 7] = inside
    assert Piece(inside, left, 0).run_lengths((width, 30)) == coco_counts(truth)


def test_a_mask_of_a_whole_picture_takes_a_few_bytes_a_pixel() -> None:
    side = 3000
    pixels = np.zeros((side, side, 3), np.uint8)
    box = Box(x1=0, y1=0, x2=side, y2=side)
    circle = np.array([[side / 2 * (1 + f(t / 50)) for f in (np.cos, np.sin)] for t in range(315)], np.float32)
    detections = [Detection(id=str(n), defect=None, severity=None, prompt="", score=1, box=box) for n in range(2)]
    tracemalloc.start()
    try:
        add_masks(pixels, detections, [None, circle], Deadline.within(60))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * side**2
    areas = [sum(found.mask.rle.counts[1::2]) for found in detections if found.mask is not None]
    assert side**2 > MOST_FINE
    assert areas == [side**2, pytest.approx(np.pi / 4 * side**2, rel=0.002)]


def test_no_mask_is_made_behind_the_deadline() -> None:
    box = Box(x1=0, y1=0, x2=9, y2=9)
    found = Detection(id="1", defect=None, severity=None, prompt="", score=1, box=box)
    with pytest.raises(DeadlineError):
        add_masks(np.zeros((9, 9, 3), np.uint8), [found], [None], Deadline.within(0))
    assert found.mask is None


def coco_counts(truth: NDArray[np.uint8]) -> list[int]:
    """By COCO's definition, pixel by pixel."""
    counts, current = [0], 0
    for value in truth.T.ravel().tolist():
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return counts


def test_polygons_enclose_what_the_mask_shows() -> None:
    inside = np.zeros((40, 50), bool)
    inside[5:30, 10:45] = True
    (polygon,) = Piece(inside, 100, 200).polygons()
    points = np.array(polygon)
    assert points.min(axis=0).tolist() == [110.5, 205.5]
    assert points.max(axis=0).tolist() == [144.5, 229.5]


def test_the_drawn_defects_of_a_board_get_masks_within_their_boxes() -> None:
    truth = json.loads(BOARD.with_suffix(".json").read_text())
    with Image.open(BOARD) as image:
        pixels = np.asarray(image.convert("RGB"))
    detections = []
    for number, annotation in enumerate(truth["annotations"]):
        x, y, w, h = annotation["bbox"]
        box = Box(x1=x, y1=y, x2=x + w, y2=y + h)
        detections.append(Detection(id=str(number), defect=None, severity=None, prompt="", score=1, box=box))
    add_masks(pixels, detections, [None] * len(detections), Deadline.within(60))
    assert len(detections) >= len(BARE_BOARD)
    for found in detections:
        assert found.mask is not None
        assert found.mask.source == "pixels"
        assert found.mask.rle.size == (640, 640)
        assert sum(found.mask.rle.counts) <= 640 * 640
        for polygon in found.mask.polygons:
            assert all(found.box.x1 - 1 <= x <= found.box.x2 + 1 for x, _ in polygon)
            assert all(found.box.y1 - 1 <= y <= found.box.y2 + 1 for _, y in polygon)


def test_an_outline_is_filled_within_its_box_and_the_image() -> None:
    square = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.float32)
    truth = np.zeros((50, 50), bool)
    truth[20:40, 10:30] = True
    assert iou(fill_outline(square, (5.5, 5.5, 45, 45), (50, 50)), truth) == 1
    truth[:, 25:] = truth[:25] = False
    assert iou(fill_outline(square, (0, 25, 25, 60), (50, 50)), truth) == 1
    assert fill_outline(square, (35, 35, 45, 45), (50, 50)) is None
    assert fill_outline(square, (60, 60, 70, 70), (50, 50)) is None


def test_an_outline_stands_for_what_the_model_says_and_one_without_area_for_nothing() -> None:
    pixels = np.full((100, 100, 3), 200, np.uint8)
    pixels[40:60, 40:60] = 20
    box = Box(x1=30, y1=30, x2=70, y2=70)
    outlines = [np.array(points, np.float32) for points in ([[32, 32], [52, 32], [52, 52]], [[1, 1], [2, 1], [2, 2]])]
    detections = [
        Detection(id=str(number), defect=None, severity=None, prompt="", score=1, box=box) for number in range(3)
    ]
    add_masks(pixels, detections, [*outlines, None], Deadline.within(60))
    masks = [found.mask for found in detections]
    assert [mask.source for mask in masks if mask is not None] == ["model", "pixels", "pixels"]
    areas = [sum(mask.rle.counts[1::2]) for mask in masks if mask is not None]
    assert areas[0] == pytest.approx(200, abs=15)
    assert areas[1] == areas[2] == pytest.approx(400, rel=0.1)
