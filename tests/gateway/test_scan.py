"""A picture in tiles, with readings made of plain functions: what is asked, how much at a time, what comes of it."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract.boxes import Detections
from export.contract.tensors import DETECTOR
from export.contract.tiles import merge_tiles, tile_origins
from gateway.errors import ModelError, NoRegionError
from gateway.models.acceptance import Acceptance
from gateway.models.queue import TileQueue
from gateway.models.scan import BATCHES_IN_FLIGHT, judge, scan
from gateway.pictures.line_scan import LineScan
from gateway.pictures.magnification import magnify
from gateway.pictures.picture import Picture, WholePicture
from gateway.request.magnification import read_magnification
from gateway.request.parameters import MAX_DETECTIONS, DetectParameters
from training.reading.detect import magnified

TILE = 64
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


async def dark_spot(tiles: NDArray[np.uint8]) -> Outputs:
    """One box for each tile: around what is dark in it, scored by how dark that is."""
    boxes = np.zeros((len(tiles), 1, 4), np.float32)
    scores = np.zeros((len(tiles), 1, 1), np.float32)
    for index, tile in enumerate(tiles[..., 0]):
        ys, xs = np.nonzero(tile < 128)
        if len(ys):
            boxes[index, 0] = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / TILE
            scores[index, 0] = 1 - tile[ys, xs].mean() / 255
    return boxes, scores


def look(
    picture: Picture,
    read: Callable[[NDArray[np.uint8]], Awaitable[Outputs]] = dark_spot,
    acceptance: Acceptance = Acceptance([0]),  # noqa: B008 - frozen
    **parameters: Any,  # noqa: ANN401
) -> Detections:
    asked = DetectParameters(**parameters)
    found = asyncio.run(scan(picture, TILE, read, [0.1], acceptance, asked, TileQueue()))
    return judge(found, [0.1], acceptance, asked)


def board(width: int = 300, height: int = 400, *spots: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    pixels = np.full((height, width, 3), 255, np.uint8)
    for x1, y1, x2, y2 in spots:
        pixels[y1:y2, x1:x2] = 0
    return pixels


SMALL, LARGE = (100, 200, 110, 208), (150, 20, 290, 150)


def test_a_spot_is_found_once_where_it_is() -> None:
    found = look(WholePicture(board(300, 400, SMALL)))
    np.testing.assert_allclose(found.boxes_xyxy, [SMALL])


def test_the_whole_image_shows_what_no_tile_can() -> None:
    picture = WholePicture(board(300, 400, SMALL, LARGE))
    alone = look(picture)
    assert not any((box[2] - box[0] > 100) for box in alone.boxes_xyxy)
    # One thumbnail shows both spots in one box: what counts is that it is seen at all, and in pixels of the image.
    whole = look(picture, full_image=True)
    assert any((box[2] - box[0] > 100) for box in whole.boxes_xyxy)
    large_alone = look(WholePicture(board(300, 400, LARGE)), full_image=True)
    best = large_alone.boxes_xyxy[large_alone.scores.argmax()]
    np.testing.assert_allclose(best, LARGE, atol=400 / TILE)


def test_the_whole_image_says_nothing_about_what_a_tile_sees() -> None:
    picture = WholePicture(board(300, 400, SMALL))
    plain, with_whole = look(picture), look(picture, full_image=True)
    np.testing.assert_array_equal(plain.boxes_xyxy, with_whole.boxes_xyxy)


def test_a_greater_overlap_asks_more_tiles() -> None:
    asked: list[int] = []

    async def count(tiles: NDArray[np.uint8]) -> Outputs:
        asked.append(len(tiles))
        return await dark_spot(tiles)

    look(WholePicture(board()), count)
    usual = sum(asked)
    look(WholePicture(board()), count, tile_overlap=0.5)
    assert sum(asked) - usual > usual
    assert max(asked) <= DETECTOR.max_batch_size


@pytest.mark.parametrize("magnification", [0.5, 2.0])
def test_a_magnified_look_asks_for_tiles_of_the_same_size_and_answers_in_pixels_of_the_image(
    magnification: float,
) -> None:
    asked: list[int] = []

    async def count(tiles: NDArray[np.uint8]) -> Outputs:
        assert tiles.shape[1:] == (TILE, TILE, 3)
        asked.append(len(tiles))
        return await dark_spot(tiles)

    picture = WholePicture(board(300, 400, SMALL))
    found = look(picture, count, magnification=(magnification,))
    np.testing.assert_allclose(found.boxes_xyxy, [SMALL], atol=1 / magnification)
    assert sum(asked) == len(tile_origins(picture.resolution_wh, round(TILE / magnification)))


def test_several_magnifications_are_several_looks_whose_boxes_are_merged() -> None:
    asked: list[int] = []

    async def count(tiles: NDArray[np.uint8]) -> Outputs:
        asked.append(len(tiles))
        return await dark_spot(tiles)

    picture = WholePicture(board(300, 400, SMALL))
    found = look(picture, count, magnification=(1, 2.0))
    np.testing.assert_allclose(found.boxes_xyxy, [SMALL], atol=0.5)
    assert sum(asked) == sum(len(tile_origins(picture.resolution_wh, side)) for side in (TILE, TILE // 2))


def test_an_overview_answers_only_for_what_no_tile_of_the_nearer_look_may_show_whole() -> None:
    long = (420, 400, 480, 420)  # in no tile of 64 pixels whole
    picture = WholePicture(board(600, 600, SMALL, long))

    def found(*magnification: float) -> list[list[float]]:
        boxes: list[list[float]] = look(picture, magnification=magnification).boxes_xyxy.tolist()
        return boxes

    def shows(boxes: list[list[float]], spot: tuple[int, int, int, int]) -> bool:
        return any(np.allclose(box, spot, atol=3) for box in boxes)

    afar, near, both = found(0.4), found(1.0), found(0.4, 1.0)
    assert shows(afar, SMALL)  # alone it answers for everything
    assert shows(afar, long)
    assert not shows(near, long)
    assert shows(both, long)
    assert [box for box in both if shows([box], SMALL)] == [box for box in near if shows([box], SMALL)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1.5", (1.5,)), ("[1, 2, 1]", (1.0, 2.0)), (2, (2.0,)), ([0.25, 4], (0.25, 4.0))],
)
def test_magnification_is_a_number_or_a_list(given: object, expected: tuple[float, ...]) -> None:
    assert read_magnification(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "large",
        "0.2",
        "4.1",
        "NaN",
        "[]",
        "[1, true]",
        "[1, 2, 3, 4, 0.5]",
        True,
        None,
        "{}",
        "[" * 5000,
        "1" + "0" * 400,
    ],
)
def test_no_magnification_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"from 0\.25 to 4"):
        read_magnification(given)


def test_magnified_tiles_are_those_that_training_judges_by() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    for side in (32, 48, 64):
        np.testing.assert_array_equal(magnify(tiles, side), magnified(tiles, side))


def test_only_tiles_that_reach_into_a_region_are_asked() -> None:
    asked: list[int] = []

    async def count(tiles: NDArray[np.uint8]) -> Outputs:
        asked.append(len(tiles))
        return await dark_spot(tiles)

    around = Acceptance([0], regions=(((90.0, 190.0), (120.0, 190.0), (120.0, 220.0), (90.0, 220.0)),))
    found = look(WholePicture(board(300, 400, SMALL, LARGE)), count, around)
    np.testing.assert_allclose(found.boxes_xyxy, [SMALL])
    assert sum(asked) <= 4
    outside = Acceptance([0], regions=(((900.0, 0.0), (910.0, 0.0), (910.0, 10.0)),))
    with pytest.raises(NoRegionError, match="300 x 400"):
        look(WholePicture(board()), acceptance=outside)


@pytest.mark.parametrize("magnification", [(0.25,), (1.0, 0.25), (0.25, 1.0)])
def test_a_region_beyond_the_image_is_refused_where_a_tile_would_reach_it(magnification: tuple[float, ...]) -> None:
    beyond = Acceptance([0], regions=(((110.0, 10.0), (120.0, 10.0), (120.0, 20.0)),))
    with pytest.raises(NoRegionError, match="100 x 100"):
        look(WholePicture(board(100, 100)), acceptance=beyond, magnification=magnification)


def test_what_does_not_count_makes_no_room_for_the_rest() -> None:
    """The two best boxes are too small for their class; the third is still among the two that were asked for."""
    spots = [(10, 10, 14, 14), (100, 100, 104, 104), (200, 300, 220, 320)]
    found = look(WholePicture(board(300, 400, *spots)), acceptance=Acceptance([10]), max_detections=2)
    np.testing.assert_allclose(found.boxes_xyxy, spots[2:])


def test_few_batches_are_held_at_a_time() -> None:
    under_way = most = 0

    async def watch(tiles: NDArray[np.uint8]) -> Outputs:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await dark_spot(tiles)

    look(WholePicture(board(2000, 1000)), watch)
    assert most == BATCHES_IN_FLIGHT


def test_a_fault_of_one_batch_is_that_of_the_whole() -> None:
    async def fail(tiles: NDArray[np.uint8]) -> Outputs:
        if (tiles == 0).any():
            raise ModelError("broken")
        return await dark_spot(tiles)

    with pytest.raises(ModelError, match="broken"):
        look(WholePicture(board(1000, 1000, (900, 900, 910, 910))), fail)


@pytest.mark.parametrize("full_image", [False, True])
def test_a_picture_read_in_bands_is_answered_as_the_whole(full_image: bool) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 380, (30, 2))
    pixels = board(500, 400, *((x, y, x + 9, y + 7) for x, y in corners.tolist()), LARGE)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression="tiff_lzw")
    whole = look(WholePicture(pixels), full_image=full_image)
    bands = look(LineScan(buffer.getvalue(), 10**6), full_image=full_image)
    assert len(whole) > 10
    np.testing.assert_allclose(bands.boxes_xyxy, whole.boxes_xyxy, atol=2 * 500 / TILE if full_image else 0)


@pytest.mark.parametrize("size", [(640, 640), (100, 80), (300, 1000)])
def test_a_plain_look_gives_what_training_judges_by(size: tuple[int, int]) -> None:
    """Batches placed one by one, then merged: the same boxes in the same order as `merge_tiles` of all at once."""
    width, height = size
    rng = np.random.default_rng(0)
    origins = tile_origins(size, TILE)
    corner = rng.random((len(origins), 12, 2), np.float32) * 0.7
    boxes = np.concatenate([corner, corner + rng.random(corner.shape, np.float32) * 0.3], axis=2)
    scores = rng.random((len(origins), 12, 1), np.float32).round(1)  # many are equal
    number = 0

    async def read(tiles: NDArray[np.uint8]) -> Outputs:
        nonlocal number
        own = slice(number, number + len(tiles))
        number += len(tiles)
        return boxes[own], scores[own]

    found = look(WholePicture(board(width, height)), read)
    thresholds = {"score_threshold": 0.1, "nms_threshold": 0.3, "max_detections": MAX_DETECTIONS}
    expected = merge_tiles(boxes, scores, origins, size, TILE, **thresholds)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)
