import contextlib
import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from simplejpeg import decode_jpeg

from gateway.errors import ImageError, MediaTypeError, TooLargeError
from gateway.pictures import images
from gateway.pictures.images import EncodedImage
from gateway.pictures.picture import open_picture
from gateway.settings import Settings
from tests.conftest import ROOT

PIXELS = 1_000_000
GRAY = np.arange(40 * 30, dtype=np.uint32).reshape(30, 40).astype(np.uint8)


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    return EncodedImage(data, max_pixels).decode()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_decode_gives_rgb_of_every_lossless_kind(kind: str, mode: str) -> None:
    image = Image.fromarray(GRAY).convert("RGB").convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(image, kind), PIXELS), expected)


def test_decoding_in_threads_leaves_the_filters_of_warnings_alone() -> None:
    before, picture = list(warnings.filters), encoded(Image.fromarray(GRAY), "PNG")
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(decode, [picture] * 400, [PIXELS] * 400))) == 400
    assert warnings.filters == before


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_decode_reads_jpeg(mode: str) -> None:
    image = Image.new("RGB", (64, 48), (200, 100, 50)).convert(mode)
    assert decode(encoded(image, "JPEG", quality=95), PIXELS).shape == (48, 64, 3)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_decode_reads_jpeg_as_pillow_does(mode: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data, PIXELS), expected)
    np.testing.assert_array_equal(decode(data + b"what a camera appends", PIXELS), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_scales_16_bit_gray_to_8(kind: str) -> None:
    deep: NDArray[np.uint16] = np.array([[0, 257, 65535], [128 * 257, 256, 1000]], np.uint16)
    pixels = decode(encoded(Image.fromarray(deep), kind), PIXELS)
    assert pixels[..., 0].tolist() == [[0, 1, 255], [128, 0, 3]]


def test_decode_leaves_the_pixels_where_the_file_has_them() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees
    for kind in ("JPEG", "PNG"):
        assert decode(encoded(Image.new("L", (60, 40)), kind, exif=exif), PIXELS).shape == (40, 60, 3)


TURNED_BY_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["plain", "packed"])
def test_a_tiff_that_is_to_be_turned_is_refused(options: dict[str, Any]) -> None:
    upright = encoded(Image.fromarray(GRAY), "TIFF", tiffinfo={0x0112: 1}, **options)

    def says(orientation: int) -> bytes:
        entry, other = (struct.pack("<HHIH", 0x0112, 3, 1, value) for value in (1, orientation))
        assert upright.count(entry) == 1
        return upright.replace(entry, other)

    for orientation in range(2, 9):
        with pytest.raises(ImageError, match=f"Orientation {orientation}"):
            EncodedImage(says(orientation), PIXELS)
    with pytest.raises(ImageError, match="Orientation 6"):
        EncodedImage(encoded(Image.fromarray(GRAY), "TIFF", tiffinfo={700: TURNED_BY_XMP}, **options), PIXELS)
    for orientation in (0, 1, 9):  # the first and the last mean nothing
        np.testing.assert_array_equal(decode(says(orientation), PIXELS)[..., 0], GRAY)


def test_decode_reads_a_single_pixel_and_a_single_row() -> None:
    assert decode(encoded(Image.new("L", (1, 1)), "PNG"), PIXELS).shape == (1, 1, 3)
    assert decode(encoded(Image.new("L", (500, 1)), "PNG"), PIXELS).shape == (1, 500, 3)


@pytest.mark.parametrize("mode", ["LAB", "I;16", "CMYK"])
def test_decode_joins_strips_without_a_seam(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 30, 4), dtype=np.uint8)
    bands = {"LAB": noise[..., :3], "I;16": noise[..., :2].copy().view(np.uint16)[..., 0], "CMYK": noise}[mode]
    data = encoded(Image.frombytes(mode, (30, 50), bands.tobytes()), "TIFF")
    whole = decode(data, 10_000)
    monkeypatch.setattr(images, "STRIP_PIXELS", 7 * 30)
    np.testing.assert_array_equal(decode(data, 10_000), whole)


def test_decode_makes_no_colour_transform_for_every_few_pixels_of_a_thin_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each takes Pillow ten milliseconds."""
    made: list[object] = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *given: made.append(given) or build(*given))
    assert decode(encoded(Image.new("LAB", (1, 40_000)), "TIFF"), 40_000).shape == (40_000, 1, 3)
    assert len(made) == 1


def test_decode_reads_the_first_of_many_pages_only() -> None:
    pages = [Image.new("L", (400, 300), level) for level in (50, *[200] * 199)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    tracemalloc.start()
    try:
        assert decode(data, PIXELS)[0, 0].tolist() == [50, 50, 50]
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20  # 24 MB of pages
    finally:
        tracemalloc.stop()


def test_decode_refuses_emptiness() -> None:
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"", PIXELS)


@pytest.mark.parametrize("data", [b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100), b"%PDF-1.7"])
def test_decode_refuses_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(MediaTypeError):
        decode(data, PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_decode_refuses_truncated_pictures(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises((ImageError, MediaTypeError)):
        decode(data[: len(data) // 2], PIXELS)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def _jpeg(width: int, height: int) -> bytes:
    """A real one, with another size in its frame header (SOF0)."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _tiff(width: int, height: int) -> bytes:
    data = encoded(Image.new("L", (8, 8)), "TIFF")
    for tag, old, new in ((256, 8, width), (257, 8, height)):  # ImageWidth and ImageLength, which Pillow writes as LONG
        data = data.replace(struct.pack("<HHII", tag, 4, 1, old), struct.pack("<HHII", tag, 4, 1, new))
    return data


@pytest.mark.parametrize("make", [_png, _jpeg, _bmp, _tiff])
def test_a_picture_is_refused_by_its_header_before_it_is_decoded(make: Callable[[int, int], bytes]) -> None:
    """30,000 x 30,000 pixels in a few bytes: refused for its size, not for its missing data."""
    data = make(30_000, 30_000)
    assert len(data) < 2000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="30000 x 30000"):
            open_picture(data, Settings())
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_packed_text_within_a_picture_is_not_unpacked_without_bound() -> None:
    """A PNG of 100 kB whose comment would be 100 MB."""
    info = PngInfo()
    info.add_text("Comment", "x" * 100_000_000, zip=True)
    data = encoded(Image.new("L", (8, 8)), "PNG", pnginfo=info)
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with contextlib.suppress(ImageError, MediaTypeError):
            decode(data, PIXELS)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_decode_reads_a_jpeg_with_damage_in_it_but_to_its_end() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", progressive=True)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="Corrupt"):
        decode_jpeg(bytes(damaged), "RGB")  # else this would test nothing
    pixels = decode(bytes(damaged), PIXELS)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB")))
    with pytest.raises(ImageError, match="truncated"):
        decode(bytes(damaged[: len(damaged) * 3 // 4]), PIXELS)


@pytest.mark.parametrize("size", [(70_000, 1), (1, 70_000)])
def test_decode_refuses_what_is_long_and_thin(size: tuple[int, int]) -> None:
    with pytest.raises(TooLargeError, match="65535 on a side"):
        decode(encoded(Image.new("L", size), "PNG"), PIXELS)


def test_decode_never_fails_otherwise() -> None:
    """Random damage to real files ends in a picture or in one of the three errors."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        original = np.frombuffer(encoded(noise, kind), np.uint8)
        for _ in range(150):
            damaged = original.copy()
            places = rng.integers(0, len(damaged), rng.integers(1, 12))
            damaged[places] = rng.integers(0, 256, len(places))
            with contextlib.suppress(ImageError, MediaTypeError, TooLargeError):
                assert decode(damaged.tobytes(), PIXELS).shape[2] == 3


PEAK = """
import sys
from pathlib import Path
from gateway.pictures import images
from gateway.pictures.images import EncodedImage

def peak_kilobytes():
    return int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")).split()[1])

data = sys.stdin.buffer.read()
before = peak_kilobytes()
EncodedImage(data, 2**24).decode()
print((peak_kilobytes() - before) * 1024 / 2**24)
"""


@pytest.mark.parametrize(("mode", "most"), [("RGB", 9), ("1", 6), ("I;16", 8)])
def test_decode_takes_no_more_than_pillows_pixels_and_its_own(mode: str, most: float) -> None:
    """In bytes a pixel; three of them are the answer."""
    command, data = [sys.executable, "-c", PEAK], encoded(Image.new(mode, (4096, 4096)), "PNG")
    assert float(subprocess.run(command, cwd=ROOT, input=data, capture_output=True, check=True).stdout) < most
