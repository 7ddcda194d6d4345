"""Tiles cut from a picture to the size that the detector reads, as training/reading/detect.py makes them."""

import cv2
import numpy as np
from numpy.typing import NDArray


def magnify(tiles: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Square tiles (T, N, N, 3) to (T, side, side, 3): smoothly where they become larger, by areas where smaller."""
    if tiles.shape[1] == side:
        return tiles
    way = cv2.INTER_LINEAR if side > tiles.shape[1] else cv2.INTER_AREA
    return np.stack([cv2.resize(tile, (side, side), interpolation=way) for tile in tiles])
