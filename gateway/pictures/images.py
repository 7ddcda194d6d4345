"""Bytes to pixels: any JPEG, PNG, BMP or TIFF as 8-bit RGB, with its size checked before it is decoded.

Pixels stay where the file has them: an EXIF orientation is not applied, since boxes are given in pixels of
the image as sent. A TIFF that has one is refused: its readers do not agree on it.
"""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from simplejpeg import decode_jpeg  # type: ignore[import-untyped]

from gateway.errors import ImageError, MediaTypeError, TooLargeError
from gateway.pictures.libtiff import silence_libtiff

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/bmp", "image/x-ms-bmp", "image/tiff")
MAX_SIDE = 65_535  # pixels, as in JPEG: tiles of a longer and thinner picture would be mostly padding
QUICK_MODES = ("L", "RGB")  # of a JPEG: libjpeg-turbo alone gives what Pillow gives, sooner and without a second copy
DEPTH_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # gray; Pillow itself reduces 16-bit colour to 8 bits
TURNED = range(2, 9)  # of the tag Orientation: by quarter turns, mirrored, or both
PILLOW_BLOCK_BYTES = 256 * 2**20  # of its pixels; a large picture in small blocks would stay on the heap behind others
STRIP_PIXELS = 1 << 20  # made RGB at once; a strip of CIELAB takes 10 ms by itself, however few rows it has

Image.MAX_IMAGE_PIXELS = None  # it would only warn up to twice its value; EncodedImage checks the header
Image.core.set_block_size(PILLOW_BLOCK_BYTES)  # type: ignore[attr-defined] # Pillow documents it as its block allocator
silence_libtiff()
# Pillow warns of oddities in metadata, which nobody reads here. All threads share the filters, so they are set once.
warnings.filterwarnings("ignore", module="PIL")


class EncodedImage:
    """The bytes of a picture, of which the header was read."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """Reads the header.

        Raises:
            ImageError: empty, or a TIFF that is to be turned.
            MediaTypeError: none of FORMATS.
            TooLargeError: more than `max_pixels`, or than MAX_SIDE on a side.
        """
        if not data:
            raise ImageError("the image is empty, 0 bytes; send the bytes of a JPEG, PNG, BMP or TIFF file")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            # Pillow turns TIFFs alone.
            orientation = image.getexif().get(ExifTags.Base.Orientation) if image.format == "TIFF" else None
        except Exception as error:  # a damaged header raises almost anything
            raise MediaTypeError(
                f"the {len(data)} bytes sent are not a readable {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
            ) from error
        width, height = image.size
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise TooLargeError(
                f"the image has {width} x {height} = {width * height} pixels, the limit is {max_pixels} "
                f"and {MAX_SIDE} on a side; send it in parts"
            )
        if not width or not height:
            raise ImageError(f"the image has {width} x {height} pixels, expected at least one")
        check_upright(orientation)
        self._data = data
        self._image = image
        self.pixels = width * height

    def decode(self) -> NDArray[np.uint8]:
        """As RGB (H, W, 3), in up to 9 bytes a pixel, of which 3 are the answer.

        16-bit gray levels are divided by 257, transparency is dropped, of several pages the first is read.

        Raises:
            ImageError: truncated or damaged.
            TooLargeError: there is no memory for it.
        """
        image = self._image
        try:
            quick = image.format == "JPEG" and image.mode in QUICK_MODES
            return _jpeg(self._data, image) if quick else _as_rgb(image)
        except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error, zlib.error) as error:
            raise ImageError(
                f"the {image.format} image of {image.width} x {image.height} pixels cannot be decoded ({error}); "
                "it is truncated or damaged, send it again"
            ) from error
        except MemoryError as error:
            raise TooLargeError(
                f"the image of {image.width} x {image.height} pixels does not fit into memory"
            ) from error


def check_upright(orientation: object) -> None:
    """Raises ImageError where that tag of a TIFF says that it is to be turned."""
    if orientation in TURNED:
        raise ImageError(
            f"the TIFF says that it is to be turned (Orientation {orientation}); store it upright, without that tag"
        )


def _jpeg(data: bytes, image: Image.Image) -> NDArray[np.uint8]:
    """By libjpeg-turbo itself; of what it warns of, Pillow says whether all is there, at an eighth of the size."""
    with suppress(ValueError):
        pixels: NDArray[np.uint8] = decode_jpeg(data, "RGB")
        return pixels
    image.draft(image.mode, (1, 1))
    image.load()
    damaged: NDArray[np.uint8] = decode_jpeg(data, "RGB", strict=False)
    return damaged


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Strip by strip: of a large picture there is no copy but the one that is returned."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; send 8 or 16 bits")
    image.load()
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        end = min(top + rows, image.height)
        pixels[top:end] = _strip_as_rgb(image.crop((0, top, image.width, end)))
    return pixels


def _strip_as_rgb(strip: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3), or (H, W, 1) of gray."""
    if strip.mode in DEPTH_16:
        levels = np.asarray(strip).astype(np.int32) // 257
        return np.clip(levels, 0, 255).astype(np.uint8)[..., None]
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
