"""Views of defects whose outlines are asked for: what they show, and where the outline lies in them."""

import random

import cv2
import numpy as np
import pytest

from export.contract.locations import dequantise_outline
from training.crops.crop import Crop
from training.crops.view import draw_view
from training.data.outline import UNKNOWN, Polygon

SIZE = 256


def crop(*polygons: Polygon) -> Crop:
    """White polygons on black, each with its box."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(image, [polygon.astype(np.int32)], (255, 255, 255))
    boxes = np.array([[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in polygons], np.float32).reshape(-1, 4)
    return Crop(image, boxes, np.zeros(len(boxes), np.int64), ((),) * len(boxes), polygons)


@pytest.mark.parametrize("corner", [(4, 6), (120, 90), (222, 228)])
def test_a_small_defect_is_shown_large_and_its_outline_lies_on_it(corner: tuple[int, int]) -> None:
    """Also at the edges, where the defect is not in the middle of its view."""
    polygon = np.array([[0, 0], [24, 0], [24, 12], [0, 24]], np.float32) + np.array(corner, np.float32)
    view = draw_view(crop(polygon), random.Random(1))
    assert view is not None
    assert view.image.shape == (SIZE, SIZE, 3)
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    points = dequantise_outline(view.outline, view.region) * SIZE
    cv2.fillPoly(drawn, [np.rint(points).astype(np.int32)], (1,))
    white = view.image[..., 0] > 127
    assert white.mean() > 0.1  # of 256 x 256 pixels: 0.007 in the crop
    assert (drawn.astype(bool) & white).sum() / (drawn.astype(bool) | white).sum() > 0.9
    region = view.region / 1000 * SIZE
    assert np.abs(region[:2] - points.min(axis=0)).max() < 0.1 * SIZE
    assert np.abs(region[2:] - points.max(axis=0)).max() < 0.1 * SIZE


def test_a_defect_as_large_as_the_crop_is_shown_whole() -> None:
    large = np.array([[0, 0], [256, 0], [256, 256], [0, 256]], np.float32)
    image = crop(large)
    view = draw_view(image, random.Random(0))
    assert view is not None
    np.testing.assert_array_equal(view.image, image.image)


def test_where_no_outline_is_known_there_is_no_view() -> None:
    assert draw_view(crop(), random.Random(0)) is None
    known = crop(np.array([[9, 9], [40, 9], [40, 40]], np.float32))
    assert draw_view(Crop(known.image, known.boxes_xyxy, known.class_ids, ((),), (UNKNOWN,)), random.Random(0)) is None
