import cv2
import numpy as np
import pytest

from export.contract.locations import MOST_POINTS
from training.data.outline import UNKNOWN, Polygon, arrange, cut, largest, overlap, simplify, trace

SQUARE = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.float32)


def disc(radius: int, side: int = 200) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), radius, (1,), -1)
    return mask


def test_trace_follows_the_corners_of_pixels() -> None:
    mask = np.zeros((50, 50), np.uint8)
    mask[20:40, 10:30] = mask[0, 0] = 1
    outline = largest(trace(mask))
    assert sorted(map(tuple, outline.tolist())) == sorted(map(tuple, SQUARE.tolist()))
    assert trace(np.zeros((5, 5), np.uint8)) == []
    assert largest([]) is UNKNOWN


@pytest.mark.parametrize(
    ("size", "area"), [(50, 400), (30, 200), (20, 0), (10, 0)], ids=["whole", "half", "touching", "outside"]
)
def test_cut_keeps_what_lies_in_the_crop(size: int, area: float) -> None:
    kept = cut(SQUARE, size)
    assert cv2.contourArea(kept) == pytest.approx(area) if area else kept is UNKNOWN


def test_cut_goes_straight_through_a_slanted_edge() -> None:
    diamond = np.array([[0, -10], [10, 0], [0, 10], [-10, 0]], np.float32)
    kept = cut(diamond, 50)
    assert {tuple(point) for point in kept.tolist()} == {(0, 0), (0, 10), (10, 0)}
    assert cv2.contourArea(kept) == 50


def test_simplify_has_few_points_and_keeps_the_shape() -> None:
    outline = largest(trace(disc(80)))
    simple = simplify(outline)
    assert len(outline) > MOST_POINTS > len(simple) > 6
    assert overlap(outline, simple) > 0.85
    comb = np.array([(x, y) for x in range(0, 200, 4) for y in ((0, 100), (100, 0))[x // 4 % 2]], np.float32)
    assert len(simplify(np.concatenate([comb, [[200, 150], [0, 150]]]).astype(np.float32))) <= MOST_POINTS
    assert len(simplify(SQUARE)) == 4


@pytest.mark.parametrize("polygon", [UNKNOWN, np.array([[5, 5], [25, 5], [25, 5.1]], np.float32)])
def test_what_has_no_shape_is_not_simplified(polygon: Polygon) -> None:
    assert simplify(polygon) is UNKNOWN


@pytest.mark.parametrize("turned", [SQUARE, SQUARE[::-1], np.roll(SQUARE, 2, axis=0)])
def test_arrange_goes_clockwise_from_the_corner(turned: Polygon) -> None:
    np.testing.assert_array_equal(arrange(turned, np.array([8, 19], np.float32)), SQUARE)


def test_overlap_is_of_areas() -> None:
    assert overlap(SQUARE, SQUARE) == 1
    assert overlap(SQUARE, SQUARE + np.float32(10)) == pytest.approx(100 / 700, abs=0.02)
    assert overlap(SQUARE, UNKNOWN) == overlap(UNKNOWN, UNKNOWN) == 0
