"""One image as overlapping square tiles, and the detector's answers to them as one list of boxes.

Training judges, export verifies and the gateway serves through these same functions, so a figure
measured in one room holds in the others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections, nms

OVERLAP = 0.25  # of the tile side: a defect up to this size is whole in at least one tile
EDGE_PIXELS = 2.0  # a box this near to an inner tile edge is taken to be cut by it
CUT_SCORE_FACTOR = 0.3  # what a cut box keeps of its score: the neighbouring tile sees it whole
OVERVIEW = 1.5  # a look whose tiles show so many times as many pixels each way as another's is an overview beside it
VIEW = 2.0  # of a region's longer side: so much of the picture is shown when the outline of what is in it is asked for
LEAST_VIEW = 32  # pixels: what is magnified more has nothing more to show
MAX_CANDIDATES = 30_000  # the best that are compared with each other; bounds the time of a threshold near 0


def tile_side(tile: int, magnification: float) -> int:
    """Pixels of an image that a tile of `tile` pixels shows, each way, at that magnification."""
    return max(1, round(tile / magnification))


def tile_origins(resolution_wh: tuple[int, int], tile: int, overlap: float = OVERLAP) -> NDArray[np.int64]:
    """Top-left corners (T, 2) as x, y of the tiles that cover an image, row by row.

    The stride is tile * (1 - overlap) at most; the last tile of a row ends at the image's edge.
    """
    stride = int(tile * (1 - overlap))
    columns, rows = (_starts(length, tile, stride) for length in resolution_wh)
    return np.array([(x, y) for y in rows for x in columns], dtype=np.int64)


def view_of(region_xyxy: NDArray[np.floating[Any]], resolution_wh: tuple[int, int]) -> tuple[int, int, int]:
    """The square of an image, x, y and side, that shows a region (4,) large: in its middle, moved into the image.

    It is as wide as the image's longer side at most.
    """
    corner, end = region_xyxy[:2], region_xyxy[2:]
    side = min(max(LEAST_VIEW, int(np.ceil(VIEW * (end - corner).max()))), max(resolution_wh))
    x, y = np.clip(np.rint((corner + end - side) / 2), 0, np.maximum(np.array(resolution_wh) - side, 0)).astype(int)
    return int(x), int(y), side


def cut_tiles(image: NDArray[np.uint8], origins: NDArray[np.int64], tile: int) -> NDArray[np.uint8]:
    """The tiles (T, tile, tile, 3) of an RGB image (H, W, 3); a smaller image is padded by its edge pixels."""
    return np.stack([_padded(image[y : y + tile, x : x + tile], tile) for x, y in origins])


def merge_tiles(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    origins: NDArray[np.int64],
    resolution_wh: tuple[int, int],
    tile: int,
    *,
    score_threshold: float | Sequence[float],
    nms_threshold: float,
    max_detections: int,
) -> Detections:
    """The detector's answers for all tiles of an image as one list of boxes in its pixels.

    Args:
        boxes: (T, K, 4) xyxy as fractions of the tile.
        scores: (T, K, P) probabilities.
        origins: (T, 2) from `tile_origins`.
        score_threshold: one for all prompts, or one for each of the P prompts.
    """
    found = place_tiles(boxes, scores, origins, resolution_wh, tile, score_threshold)
    return nms(best_candidates(found, MAX_CANDIDATES), nms_threshold, max_detections)


def place_tiles(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    origins: NDArray[np.int64],
    resolution_wh: tuple[int, int],
    tile: int,
    score_threshold: float | Sequence[float],
) -> Detections:
    """The answers for some tiles of an image as boxes in its pixels, duplicates among them, in the order of the tiles.

    Arguments are those of `merge_tiles`.
    """
    thresholds = np.broadcast_to(np.asarray(score_threshold, dtype=np.float32), (scores.shape[2],))
    # Few of all; what is below its threshold as a whole box stays so when it turns out to be cut.
    tile_ids, box_ids, class_ids = np.nonzero(scores >= thresholds)  # (N,) each
    kept = scores[tile_ids, box_ids, class_ids]
    limit = np.array([*resolution_wh, *resolution_wh], dtype=np.float32)
    offset = origins.astype(np.float32)[tile_ids][:, [0, 1, 0, 1]]  # (N, 4)
    in_tile = boxes[tile_ids, box_ids] * np.float32(tile)
    # An edge is inner where the image goes on beyond it.
    near_start = (in_tile[:, :2] <= EDGE_PIXELS) & (offset[:, :2] > 0)
    near_end = (in_tile[:, 2:] >= tile - EDGE_PIXELS) & (offset[:, :2] + tile < limit[:2])
    near = near_start | near_end
    kept = np.where(near[:, 0] | near[:, 1], kept * np.float32(CUT_SCORE_FACTOR), kept)
    placed = np.minimum(np.maximum(in_tile + offset, 0), limit)
    whole = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])  # padding lies outside the image
    return Detections(placed, kept, class_ids).take(whole & (kept >= thresholds[class_ids]))


def least_lengths(sides: Sequence[int]) -> dict[int, float]:
    """How long a box of each look at an image must be to count, by the pixels that a tile of the look shows each way.

    An overview answers only for what the look beside it may see in no tile whole: boxes longer than half of that one's
    tile. Smaller ones it sees less sharply. Looks that are nearer to each other answer for every size. (Singh and
    Davis, An Analysis of Scale Invariance in Object Detection - SNIP, 2018, give each scale the sizes that suit it.)
    """
    return {side: max((finer / 2 for finer in sides if finer * OVERVIEW <= side), default=0.0) for side in sides}


def longer_than(found: Detections, length: float) -> Detections:
    """The boxes whose longer side has more than that many pixels."""
    return found.take((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).max(axis=1, initial=0) > length)


def best_candidates(found: Detections, most: int) -> Detections:
    """The `most` best, if there are more: the time of comparing them with each other is bounded."""
    if len(found) <= most:
        return found
    return found.take(np.argsort(-found.scores, kind="stable")[:most])


def _padded(part: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    # Each tile by itself: the whole of a long and thin image, padded, would not fit into memory.
    height, width = part.shape[:2]
    if (height, width) == (tile, tile):
        return part
    return np.pad(part, ((0, tile - height), (0, tile - width), (0, 0)), mode="edge")


def _starts(length: int, tile: int, stride: int) -> list[int]:
    if length <= tile:
        return [0]
    count = -(-(length - tile) // stride) + 1
    return [min(index * stride, length - tile) for index in range(count)]
