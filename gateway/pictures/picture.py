"""A picture to be looked at in tiles: the whole of it in memory, or read from its file band by band.

Knows no models. A large TIFF, as a line-scan camera writes it, is the one kind that is read in bands.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gateway.errors import TooLargeError
from gateway.pictures.images import EncodedImage
from gateway.pictures.line_scan import LineScan, is_line_scan
from gateway.settings import Settings


class Picture(Protocol):
    """RGB pixels, 8 bits."""

    @property
    def resolution_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def bands(self, tops: list[int], height: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Rows of the picture (H, W, 3) that together hold `height` rows below each of `tops`, which ascend.

        Yields the tops that a band serves and its pixels, whose first row is the first of these tops.
        """

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """The picture (H, W, 3) made smaller, its longer side being `side`."""


@dataclass(frozen=True)
class WholePicture:
    """A picture in memory: pixels (H, W, 3)."""

    pixels: NDArray[np.uint8]

    @property
    def resolution_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (self.pixels.shape[1], self.pixels.shape[0])

    def bands(self, tops: list[int], height: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """All of it, once."""
        yield tops, self.pixels[tops[0] :]

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """By the mean over areas."""
        scale = side / max(self.resolution_wh)
        width, height = (max(1, round(length * scale)) for length in self.resolution_wh)
        return np.asarray(Image.fromarray(self.pixels).resize((width, height), Image.Resampling.BOX))


def held_pixels(picture: Picture) -> NDArray[np.uint8]:
    """All pixels (H, W, 3), for what needs more than tiles.

    Raises:
        TooLargeError: the picture is not held in memory.
    """
    if isinstance(picture, WholePicture):
        return picture.pixels
    width, height = picture.resolution_wh
    raise TooLargeError(
        f"the image of {width} x {height} pixels is too large for masks and for being drawn into; ask for boxes in JSON"
    )


@dataclass(frozen=True)
class OpenedPicture:
    """A file whose header was read; `decode` raises ImageError and TooLargeError."""

    pixels: int  # that are decoded at once: none of a picture that is read in bands
    decode: Callable[[], Picture]


def open_picture(data: bytes, settings: Settings) -> OpenedPicture:
    """The picture that a file holds.

    Raises:
        ImageError, MediaTypeError, TooLargeError: it cannot be read, or is larger than the settings allow.
    """
    if is_line_scan(data, settings.max_image_pixels):
        scan = LineScan(data, settings.max_line_scan_pixels)
        return OpenedPicture(0, lambda: scan)
    image = EncodedImage(data, settings.max_image_pixels)
    return OpenedPicture(image.pixels, lambda: WholePicture(image.decode()))
