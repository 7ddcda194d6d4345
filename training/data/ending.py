"""Whether all of an image file is there, told by where its format says that it ends; no pixel is decoded.

A JPEG that is cut off can be read, its rest filled in, and would be learned so.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"  # coded pixels hold neither: behind each FF of theirs is a zero
PNG_END = b"IEND\xaeB`\x82"
TIFF_PIECES = ((Base.StripOffsets, Base.StripByteCounts), (Base.TileOffsets, Base.TileByteCounts))


def is_whole(path: Path, image: Image.Image) -> bool:
    """Whether the file of an image, as Pillow has opened it, reaches to its end; whatever stands behind that.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if isinstance(image, JpegImageFile):
            end = content.rfind(JPEG_END)
            return end >= 0 and content.find(JPEG_SCAN, end) < 0  # else it is that of a preview in front of the picture
        if isinstance(image, PngImageFile):
            return content.rfind(PNG_END) >= 0
        return max(_ends(image), default=0) <= len(content)  # Pillow opens no WebP that is cut off


def _ends(image: Image.Image) -> Iterator[int]:
    """Where the pieces of a BMP or TIFF end in its file."""
    if isinstance(image, TiffImageFile):
        for offsets, lengths in TIFF_PIECES:
            pieces = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(lengths, ()), strict=False)
            yield from (offset + length for offset, length in pieces)
    if isinstance(image, BmpImageFile):
        for codec, _, offset, arguments in image.tile:
            if codec == "raw" and isinstance(arguments, tuple):  # not run lengths
                yield offset + arguments[1] * image.height  # bytes of a row, rows
