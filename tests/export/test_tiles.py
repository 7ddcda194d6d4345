import tracemalloc

import numpy as np
import pytest

from export.contract.boxes import Detections
from export.contract.tiles import (
    CUT_SCORE_FACTOR,
    MAX_CANDIDATES,
    cut_tiles,
    least_lengths,
    longer_than,
    merge_tiles,
    tile_origins,
)

TILE = 256


@pytest.mark.parametrize("size", [(640, 640), (256, 256), (100, 80), (257, 300), (1000, 256), (4096, 3000)])
def test_tiles_cover_every_pixel_and_stay_inside(size: tuple[int, int]) -> None:
    width, height = size
    covered = np.zeros((height, width), bool)
    for x, y in tile_origins(size, TILE):
        assert x == 0 or x + TILE <= width
        assert y == 0 or y + TILE <= height
        covered[y : y + TILE, x : x + TILE] = True
    assert covered.all()


def test_neighbouring_tiles_overlap_by_a_quarter_at_least() -> None:
    xs = sorted({int(x) for x, _ in tile_origins((4096, 256), TILE)})
    assert max(np.diff(xs)) <= TILE * 3 // 4


def test_a_small_image_is_padded_by_its_edge() -> None:
    image = np.arange(80 * 100 * 3, dtype=np.uint32).reshape(80, 100, 3).astype(np.uint8)
    tiles = cut_tiles(image, tile_origins((100, 80), TILE), TILE)
    assert tiles.shape == (1, TILE, TILE, 3)
    np.testing.assert_array_equal(tiles[0, :80, :100], image)
    np.testing.assert_array_equal(tiles[0, 200, 50], image[-1, 50])


def test_a_long_and_thin_image_is_cut_without_being_padded_as_a_whole() -> None:
    image = np.zeros((1, 10_000_000, 3), np.uint8)  # padded as a whole: 7.7 GB
    origins = np.array([[0, 0], [9_999_744, 0]], np.int64)
    tracemalloc.start()
    try:
        assert cut_tiles(image, origins, TILE).shape == (2, TILE, TILE, 3)
        assert tracemalloc.get_traced_memory()[1] < 10 * TILE * TILE * 3
    finally:
        tracemalloc.stop()


def test_only_the_best_candidates_are_compared() -> None:
    count = MAX_CANDIDATES + 5
    scores = np.linspace(0.1, 0.9, count, dtype=np.float32).reshape(1, count, 1)
    boxes = np.tile(np.array([0.2, 0.2, 0.4, 0.4], np.float32), (1, count, 1))
    found = merge_tiles(
        boxes, scores, np.zeros((1, 2), np.int64), (TILE, TILE), TILE,
        score_threshold=0.0, nms_threshold=0.3, max_detections=9,
    )  # fmt: skip
    assert found.scores.tolist() == pytest.approx([0.9])


def merged(boxes_by_tile: dict[int, list[float]], size: tuple[int, int] = (448, 256)) -> np.ndarray:
    """Merges one box per tile given, in pixels of the tile, each with score 0.9."""
    origins = tile_origins(size, TILE)
    boxes = np.zeros((len(origins), 1, 4), np.float32)
    scores = np.zeros((len(origins), 1, 1), np.float32)
    for tile, box in boxes_by_tile.items():
        boxes[tile, 0] = np.array(box) / TILE
        scores[tile, 0] = 0.9
    found = merge_tiles(boxes, scores, origins, size, TILE, score_threshold=0.1, nms_threshold=0.3, max_detections=10)
    return np.concatenate([found.boxes_xyxy, found.scores[:, None]], axis=1)


def test_a_defect_seen_by_two_tiles_is_reported_once() -> None:
    found = merged({0: [200, 50, 240, 90], 1: [8, 50, 48, 90]})  # the second tile starts at x = 192
    np.testing.assert_allclose(found, [[200, 50, 240, 90, 0.9]], atol=1e-3)


def test_a_box_cut_by_an_inner_edge_yields_to_the_whole_one() -> None:
    found = merged({0: [236, 50, 256, 90], 1: [44, 50, 84, 90]})
    assert found[0].tolist() == pytest.approx([236, 50, 276, 90, 0.9], abs=1e-3)
    assert all(score == pytest.approx(0.9 * CUT_SCORE_FACTOR) for score in found[1:, 4])


def test_a_box_at_the_edge_of_the_image_keeps_its_score() -> None:
    assert merged({0: [0, 0, 30, 30]})[0, 4] == pytest.approx(0.9)
    assert merged({1: [226, 226, 256, 256]})[0, 4] == pytest.approx(0.9)


def test_boxes_in_the_padding_are_dropped() -> None:
    assert len(merged({0: [150, 150, 180, 180]}, size=(100, 80))) == 0


def test_thresholds_may_differ_by_prompt() -> None:
    boxes = np.tile(np.array([0.2, 0.2, 0.4, 0.4], np.float32), (1, 1, 1))
    scores = np.array([[[0.5, 0.5]]], np.float32)
    found = merge_tiles(
        boxes,
        scores,
        np.zeros((1, 2), np.int64),
        (TILE, TILE),
        TILE,
        score_threshold=[0.4, 0.6],
        nms_threshold=0.3,
        max_detections=9,
    )
    assert found.class_ids.tolist() == [0]


@pytest.mark.parametrize(
    ("sides", "least"),
    [
        ([256], {256: 0}),
        ([256, 205], {256: 0, 205: 0}),  # so near to each other, both answer for everything
        ([427, 205], {427: 102.5, 205: 0}),
        ([205, 427, 256], {427: 128, 256: 0, 205: 0}),  # what is left to an overview depends on the look that follows
        ([1024, 512, 256], {1024: 256, 512: 128, 256: 0}),
    ],
)
def test_an_overview_leaves_what_is_small_to_the_look_beside_it(sides: list[int], least: dict[int, float]) -> None:
    assert least_lengths(sides) == least


def test_the_longer_side_of_a_box_counts() -> None:
    boxes = np.array([[0, 0, 10, 5], [0, 0, 5, 11], [0, 0, 10, 10]], np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.arange(3))
    assert longer_than(found, 10).class_ids.tolist() == [1]
    assert len(longer_than(found, 0)) == 3
    assert len(longer_than(found.take(np.zeros(3, bool)), 5)) == 0
