"""A TIFF too large to be held in memory, read from top to bottom in bands by libvips; its pixels are never all there.

What is held besides are a few strips, or a row of tiles, of the file; a tile above 20 MB is refused by libtiff.
"""

import logging
from collections.abc import Iterator

import numpy as np
import pyvips  # type: ignore[import-untyped]
from numpy.typing import NDArray

from gateway.errors import ImageError, TooLargeError
from gateway.pictures.images import MAX_SIDE, check_upright

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
LEVELS_16 = 257  # of 16 bits to one of 8
MOST_SAMPLES = 5  # of a pixel: CMYK with transparency; libvips takes a header's word for thousands, and their memory

logging.getLogger("pyvips").setLevel(logging.WARNING)  # it tells of every pool of threads
pyvips.cache_set_max(0)  # operations are not asked for twice: nothing of a picture is kept


def is_line_scan(data: bytes, max_pixels: int) -> bool:
    """Whether a file is a TIFF with more pixels than may be held, by its header."""
    if not data.startswith(SIGNATURES):
        return False
    try:
        image = _load(data)
    except pyvips.Error:  # whoever decodes it says what is wrong
        return False
    return int(image.width * image.height) > max_pixels


class LineScan:
    """A Picture whose bands are decoded as they are asked for."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """Reads the header.

        Raises:
            ImageError: more than MOST_SAMPLES a pixel, or it is to be turned.
            TooLargeError: more than `max_pixels`, or than MAX_SIDE on a side.
        """
        image = _load(data)
        if image.bands > MOST_SAMPLES:
            raise ImageError(
                f"the TIFF has {image.bands} samples a pixel, expected {MOST_SAMPLES} at most; send gray or RGB"
            )
        if image.width * image.height > max_pixels or max(image.width, image.height) > MAX_SIDE:
            raise TooLargeError(
                f"the TIFF has {image.width} x {image.height} = {image.width * image.height} pixels, the limit is "
                f"{max_pixels} and {MAX_SIDE} on a side; send it in parts"
            )
        check_upright(image.get("orientation") if image.get_typeof("orientation") else None)
        self._data = data
        self.resolution_wh = (image.width, image.height)

    def bands(self, tops: list[int], height: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """One band for each top; rows that the next one needs again are kept, not read again.

        Raises:
            ImageError: the file is truncated or damaged.
        """
        width, all_rows = self.resolution_wh
        try:
            region = pyvips.Region.new(_as_rgb(_load(self._data)))
            rows = np.zeros((0, width, 3), np.uint8)
            start = 0  # of `rows` in the picture
            for top in tops:
                end, known = min(top + height, all_rows), start + len(rows)
                for first in range(known, top, height):  # rows that nobody asks for are read, and forgotten
                    region.fetch(0, first, width, min(height, top - first))
                count = end - max(known, top)
                fresh = np.frombuffer(region.fetch(0, end - count, width, count), np.uint8)
                kept = rows[max(0, top - start) :]
                rows, start = np.concatenate([kept, fresh.reshape(count, width, 3)]), top
                yield [top], rows
        except pyvips.Error as error:
            raise self._damaged(error) from error

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """In a pass of its own over the file; raises as `bands` does."""
        width, height = self.resolution_wh
        try:
            return np.asarray(_as_rgb(_load(self._data)).resize(side / max(width, height)).numpy())
        except pyvips.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ImageError:
        width, height = self.resolution_wh
        reason = str(error).strip().rpartition("\n")[2]
        return ImageError(
            f"the TIFF image of {width} x {height} pixels cannot be decoded ({reason}); "
            "it is truncated or damaged, or has tiles of more than 20 MB"
        )


def _load(data: bytes) -> pyvips.Image:
    return pyvips.Image.tiffload_buffer(data, access="sequential", fail_on="error")


def _as_rgb(image: pyvips.Image) -> pyvips.Image:
    """As gateway/pictures/images.py makes it: three bands of 8 bits, transparency dropped."""
    if image.format == "ushort":
        image = (image / LEVELS_16).floor().cast("uchar").copy(interpretation="srgb" if image.bands > 2 else "b-w")
    if image.format != "uchar":
        raise ImageError(f"the TIFF has pixels of kind {image.format}, expected 8 or 16 bits")
    if image.interpretation == "cmyk":
        image = image.colourspace("srgb")
    gray = image.extract_band(0)
    return image.extract_band(0, n=3) if image.bands > 2 else gray.bandjoin([gray, gray])
