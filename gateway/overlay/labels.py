"""Finds a place for each label of a crowded picture: beside its box, inside the picture, off the other labels.

Knows neither words nor colours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RINGS = 5  # how far a label may move away from its box, in heights of a label
LABEL_WEIGHT = 20.0  # a pixel of another label covered, against a pixel of another box
RING_WEIGHT = 0.15  # of a label's own area, for each height away from the box: nearer is better


def place_labels(
    boxes_xyxy: NDArray[np.float32], sizes_wh: Sequence[tuple[int, int]], resolution_wh: tuple[int, int]
) -> NDArray[np.int64]:
    """Top-left corners (N, 2) of labels (w, h) for boxes (N, 4), the first box being the most important.

    Greedy: each label takes the place that covers the least of the labels before it, of the other boxes and of what
    lies outside the picture, and is nearest to its box.
    """
    corners = np.zeros((len(boxes_xyxy), 2), np.int64)
    taken = np.zeros((len(boxes_xyxy), 4), np.float32)
    for index, (box, size) in enumerate(zip(boxes_xyxy, sizes_wh, strict=True)):
        places = _places(box, size, resolution_wh)
        cost = LABEL_WEIGHT * _covered(places, taken[:index])
        cost += LABEL_WEIGHT * _covered(places, box[None])  # the defect itself stays visible
        cost += _covered(places, np.delete(boxes_xyxy, index, axis=0))
        cost += RING_WEIGHT * size[0] * size[1] * np.repeat(np.arange(RINGS), len(places) // RINGS)
        taken[index] = places[int(cost.argmin())]
        corners[index] = taken[index, :2]
    return corners


def _places(box: NDArray[np.float32], size_wh: tuple[int, int], resolution_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Where a label may stand (RINGS * 8, 4), xyxy: above, below, right, left; nearest first, within the picture."""
    width, height = size_wh
    x1, y1, x2, y2 = box
    places = []
    for ring in range(RINGS):
        away = ring * (height + 2) + 2
        above, below = y1 - height - away, y2 + away
        places += [(x1 - 1, above), (x1 - 1, below), (x2 - width, above), (x2 - width, below)]
        places += [(x2 + away, y1), (x1 - width - away, y1), (x2 + away, y2 - height), (x1 - width - away, y2 - height)]
    start = np.clip(np.array(places, np.float32), 0, np.maximum(np.array(resolution_wh) - size_wh, 0)).round()
    placed: NDArray[np.float32] = np.concatenate([start, start + size_wh], axis=1).astype(np.float32)
    return placed


def _covered(places: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels of each place (P, 4) that the others (N, 4) cover, summed over them -> (P,)."""
    top_left = np.maximum(places[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(places[:, None, 2:], others[None, :, 2:])
    covered: NDArray[np.float32] = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2).sum(axis=1)
    return covered
