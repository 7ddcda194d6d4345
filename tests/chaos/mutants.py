"""Damaged pictures, each made from nothing but its number: a seed drawn here, encoded, then changed.

Seeds are JPEG, PNG, TIFF and BMP of every mode that these hold, 1 x N, of 16 bits, CMYK, with EXIF rotation, with
several pages, and one that says thousands of samples a pixel. Changes are truncation, bit flips, bytes of another
value, blocks cut out, doubled or moved, another picture's end, and headers that lie about the size, up to bombs of
65,535 x 65,535 pixels.
"""

import io
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SIDES = ((48, 40), (1, 97), (97, 1), (1, 1), (200, 160))
LIES = (0, 1, 7, 255, 6_000, 30_000, 65_535, 2**31 - 1, 2**32 - 1)


def mutant(number: int) -> bytes:
    """The same bytes for the same number, on every machine with the same Pillow."""
    rng = np.random.default_rng(number)
    data = bytearray(seeds()[int(rng.integers(len(seeds())))])
    for _ in range(int(rng.integers(1, 4))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        data = change(data, rng)
    return bytes(data)


@cache
def seeds() -> tuple[bytes, ...]:
    """Whole pictures."""
    found = []
    for number, (width, height) in enumerate(SIDES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        colour = Image.fromarray(noise)
        deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
        rotated = Image.Exif()
        rotated[0x0112] = 6
        rotated[0x010E] = "a board"
        for mode in ("1", "L", "P", "RGB", "RGBA", "LA"):
            found.append(_encoded(colour.convert("RGB").convert(mode), "PNG"))
        for mode in ("1", "L", "P", "RGB"):
            found.append(_encoded(colour.convert(mode), "BMP"))
        for mode in ("L", "RGB", "CMYK"):
            found += [
                _encoded(colour.convert(mode), "JPEG", exif=rotated),
                _encoded(colour.convert(mode), "JPEG", progressive=True, quality=30),
            ]
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F"):
            for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
                found.append(_encoded(colour.convert(_between(mode)).convert(mode), "TIFF", compression=compression))
        found += [_encoded(deep, "PNG"), _encoded(deep, "TIFF"), _encoded(colour, "TIFF", compression="jpeg")]
        found.append(_encoded(colour, "TIFF", save_all=True, append_images=[colour.rotate(90)] * 4))
        found.append(_encoded(colour, "TIFF", big_tiff=True))
    return (*found, of_many_samples())


def of_many_samples() -> bytes:
    """A BigTIFF of few bytes whose header says 4,389 samples a pixel: it took 2.2 GB until that was looked at."""
    data = _encoded(Image.new("RGB", (1, 1)), "TIFF", big_tiff=True)
    for tag, kind, size, lie in ((256, 4, 1, 65_280), (257, 4, 1, 4_389), (277, 3, 3, 4_389)):  # width, length, samples
        entry = struct.pack("<HHQI", tag, kind, 1, size)
        assert entry in data, f"Pillow writes tag {tag} in another way"
        data = data.replace(entry, struct.pack("<HHQI", tag, kind, 1, lie))
    return data


def _between(mode: str) -> str:
    return "L" if mode in {"I", "F"} else "RGB"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _truncated(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data) + 1))]


def _flipped(data: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, max(len(data), 1), rng.integers(1, 12)):
        if data:
            data[place] ^= 1 << int(rng.integers(8))
    return data


def _overwritten(data: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, max(len(data), 1), rng.integers(1, 12)):
        if data:
            data[place] = int(rng.choice([0, 1, 127, 128, 254, 255]))
    return data


def _in_its_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """As most of a file is pixels, whose damage is dull."""
    head = data[:128]
    return _overwritten(head, rng) + data[128:]


def _block(rng: np.random.Generator, length: int) -> slice:
    start = int(rng.integers(0, length + 1))
    return slice(start, start + int(rng.integers(1, 65)))


def _cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    del data[_block(rng, len(data))]
    return data


def _doubled(data: bytearray, rng: np.random.Generator) -> bytearray:
    block = _block(rng, len(data))
    data[block.start : block.start] = data[block]
    return data


def _moved(data: bytearray, rng: np.random.Generator) -> bytearray:
    block = _block(rng, len(data))
    moved = data[block]
    del data[block]
    place = int(rng.integers(0, len(data) + 1))
    data[place:place] = moved
    return data


def _with_another_end(data: bytearray, rng: np.random.Generator) -> bytearray:
    other = seeds()[int(rng.integers(len(seeds())))]
    return data[: int(rng.integers(0, len(data) + 1))] + other[int(rng.integers(0, len(other))) :]


def _lying(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Another width or height where the format has it."""
    size = int(rng.choice(LIES))
    second = bool(rng.integers(2))
    if data.startswith(b"\x89PNG") and len(data) > 24:
        data[16 + 4 * second : 20 + 4 * second] = struct.pack(">I", size)
    elif data.startswith(b"BM") and len(data) > 26:
        data[18 + 4 * second : 22 + 4 * second] = struct.pack("<I", size)
    elif data.startswith(b"\xff\xd8"):
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            place = data.find(marker) + 5 + 2 * second
            if place > 6 and place + 2 <= len(data):
                data[place : place + 2] = struct.pack(">H", size & 0xFFFF)
    elif data.startswith(b"II*\0"):
        tag = struct.pack("<H", 256 + second)  # ImageWidth, ImageLength
        place = data.find(tag, 8)
        if 0 <= place <= len(data) - 12:
            data[place + 2 : place + 4] = struct.pack("<H", 4)
            data[place + 8 : place + 12] = struct.pack("<I", size)
    return data


CHANGES: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    _truncated,
    _flipped,
    _overwritten,
    _in_its_header,
    _in_its_header,
    _cut,
    _doubled,
    _moved,
    _with_another_end,
    _lying,
    _lying,
)
