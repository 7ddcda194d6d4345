"""Pillow's libtiff: without its own lines on stderr, which are no records and name no request.

What it thinks of a file stays where it belongs: a TIFF that cannot be decoded is refused with Pillow's reason. libvips
brings a libtiff of its own and takes its words by itself.
"""

import ctypes
from contextlib import suppress

from PIL import _imaging


def silence_libtiff() -> None:
    """For this process, from now on; does nothing where Pillow has no libtiff whose handlers can be set (tiffio.h)."""
    libtiff = ctypes.CDLL(_imaging.__file__)  # also finds the names of what it is linked with, whatever file that is
    for kind in ("Error", "Warning"):
        with suppress(AttributeError):
            libtiff[f"TIFFSet{kind}Handler"](None)
