"""Pictures from disk as arrays, as they are stored, magnified pieces of them, and a store that keeps some in memory."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DatasetError


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as RGB (H, W, 3) uint8, as stored: an EXIF orientation is not applied."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DatasetError(f"{path} is not a readable image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def magnified(tiles: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Square tiles (T, N, N, 3) to (T, side, side, 3), as gateway/pictures/magnification.py makes them."""
    if tiles.shape[1] == side:
        return tiles
    way = cv2.INTER_LINEAR if side > tiles.shape[1] else cv2.INTER_AREA
    return np.stack([cv2.resize(tile, (side, side), interpolation=way) for tile in tiles])


class ImageStore:
    """Decoded pictures, kept until `max_bytes` are full; the others are read from disk each time."""

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._kept: dict[Path, NDArray[np.uint8]] = {}

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The picture as RGB (H, W, 3), or as gray (H, W) where it has no colour."""
        if path in self._kept:
            return self._kept[path]
        image = read_image(path)
        if (image == image[..., :1]).all():
            image = np.ascontiguousarray(image[..., 0])
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[path] = image
        return image
