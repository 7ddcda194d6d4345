"""What is brighter than its surroundings and smaller than a disc: the white top-hat of grey-scale morphology.

Equal to OpenCV's `morphologyEx(..., MORPH_TOPHAT, disc)` to the pixel. That looks at all pixels of the disc for each
pixel of the picture, which is slow for large discs; here each row of the disc grows out of the next shorter one, so
the work grows with the disc's diameter, not with its area.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTEST = 255


def top_hat(planes: NDArray[np.uint8], box: tuple[int, int, int, int], diameter: int) -> NDArray[np.uint8]:
    """Of a box x1, y1, x2, y2 within planes (P, H, W), by a disc of an odd diameter: (P, y2 - y1, x2 - x1).

    Beyond the planes' edges there is nothing that counts.
    """
    x1, y1, x2, y2 = box
    reach = diameter // 2
    height, width = planes.shape[1:]
    left, top, right, bottom = (min(2 * reach, room) for room in (x1, y1, width - x2, height - y2))
    around = ((0, 0), (2 * reach - top, 2 * reach - bottom), (2 * reach - left, 2 * reach - right))
    seen = planes[:, y1 - top : y2 + bottom, x1 - left : x2 + right]
    eroded = _least(np.pad(seen, around, constant_values=BRIGHTEST), diameter)  # the box and `reach` around it
    for beyond, room in (
        (eroded, reach - top),
        (eroded[:, ::-1], reach - bottom),
        (eroded.swapaxes(1, 2), reach - left),
        (eroded.swapaxes(1, 2)[:, ::-1], reach - right),
    ):
        beyond[:, : max(0, room)] = 0
    opened = ~_least(~eroded, diameter)
    return planes[:, y1:y2, x1:x2] - opened


def _least(planes: NDArray[np.uint8], diameter: int) -> NDArray[np.uint8]:
    """The least pixel below the disc, wherever it lies wholly within planes (P, H, W): (P, H - 2 r, W - 2 r)."""
    reach = diameter // 2
    height, width = (side - 2 * reach for side in planes.shape[1:])
    row = planes[:, :, reach : reach + width].copy()  # (P, H, W - 2 r) the least pixel so far to both sides
    least = np.full((len(planes), height, width), BRIGHTEST, np.uint8)
    for half, rows in enumerate(_rows_by_half_width(diameter)):
        if half:
            np.minimum(row, planes[:, :, reach - half : reach - half + width], out=row)
            np.minimum(row, planes[:, :, reach + half : reach + half + width], out=row)
        for down in rows:
            np.minimum(least, row[:, down : down + height], out=least)
    return least


@lru_cache(maxsize=256)
def _rows_by_half_width(diameter: int) -> list[list[int]]:
    """For 0, 1, ... pixels to both sides of the middle one, the rows of OpenCV's disc that reach just so far."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    half_widths = disc.sum(axis=1, dtype=int) // 2
    return [np.flatnonzero(half_widths == half).tolist() for half in range(diameter // 2 + 1)]
