"""Large TIFFs, read band by band: every kind of file gives the pixels that Pillow gives for the whole of it."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.contract.tiles import tile_origins
from gateway.errors import ImageError, TooLargeError
from gateway.pictures.images import EncodedImage
from gateway.pictures.line_scan import LineScan, is_line_scan
from gateway.pictures.picture import WholePicture, open_picture
from gateway.settings import Settings

SIZE = (700, 1000)
TILE = 256
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def tiff(image: Image.Image, **options: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


FILES = {
    "gray, one strip": tiff(Image.fromarray(NOISE[..., 0]), tiffinfo={278: SIZE[1]}),
    "gray, strips, deflate": tiff(Image.fromarray(NOISE[..., 0]), compression="tiff_adobe_deflate", tiffinfo={278: 16}),
    "colour, strips, LZW": tiff(Image.fromarray(NOISE), compression="tiff_lzw", tiffinfo={278: 7}),
    "colour with transparency": tiff(Image.fromarray(NOISE).convert("RGBA")),
    "one bit, Group 4": tiff(Image.fromarray(NOISE[..., 0] > 127), compression="group4"),
    "palette": tiff(Image.fromarray(NOISE).quantize(16)),
    "16 bit": tiff(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 251)),
    "BigTIFF": tiff(Image.fromarray(NOISE), big_tiff=True),
}


def whole(scan: LineScan, tops: list[int]) -> np.ndarray:
    width, height = scan.resolution_wh
    pixels = np.zeros((height, width, 3), np.uint8)
    for (top,), rows in scan.bands(tops, TILE):
        pixels[top : top + len(rows)] = rows
    return pixels


@pytest.mark.parametrize("kind", FILES)
def test_bands_together_are_the_picture(kind: str) -> None:
    scan = LineScan(FILES[kind], 10**6)
    tops = sorted({int(y) for _, y in tile_origins(SIZE, TILE)})
    np.testing.assert_array_equal(whole(scan, tops), EncodedImage(FILES[kind], 10**6).decode())


def test_bands_may_leave_rows_out() -> None:
    scan = LineScan(FILES["gray, one strip"], 10**6)
    pixels = EncodedImage(FILES["gray, one strip"], 10**6).decode()
    for (top,), rows in scan.bands([100, 150, 700], TILE):
        np.testing.assert_array_equal(rows, pixels[top : top + TILE])


def test_a_thumbnail_is_that_of_the_whole_picture() -> None:
    data = tiff(Image.open(Path("tests/data/board.png")).resize(SIZE))
    of_bands, of_whole = (
        LineScan(data, 10**6).thumbnail(TILE),
        WholePicture(EncodedImage(data, 10**6).decode()).thumbnail(TILE),
    )
    assert of_bands.shape == of_whole.shape == (TILE, round(TILE * 0.7), 3)
    assert np.abs(of_bands.astype(int) - of_whole).mean() < 4


def test_only_a_tiff_above_the_limit_is_read_in_bands() -> None:
    data, pixels = FILES["colour, strips, LZW"], SIZE[0] * SIZE[1]
    assert is_line_scan(data, pixels - 1)
    assert not is_line_scan(data, pixels)
    assert not is_line_scan(b"II*\0 not a TIFF", 0)
    png = io.BytesIO()
    Image.new("1", SIZE).save(png, "PNG")
    settings = Settings(max_image_pixels=pixels - 1, max_line_scan_pixels=pixels - 1)
    for large in (data, png.getvalue()):
        with pytest.raises(TooLargeError, match="700 x 1000"):
            open_picture(large, settings)
    assert isinstance(open_picture(data, Settings(max_image_pixels=pixels - 1)).decode(), LineScan)
    assert isinstance(open_picture(data, Settings(max_image_pixels=pixels)).decode(), WholePicture)


def test_a_damaged_file_is_an_image_error_when_its_damage_is_met() -> None:
    data = FILES["gray, strips, deflate"]
    half = len(data) // 2
    scan = LineScan(data[:half] + bytes(20_000) + data[half + 20_000 :], 10**6)
    with pytest.raises(ImageError, match="700 x 1000"):
        whole(scan, [0, 250, 500, 744])
    with pytest.raises(ImageError, match="700 x 1000"):
        scan.thumbnail(TILE)


def test_floating_point_pixels_are_refused() -> None:
    data = tiff(Image.new("F", (20, 20)))
    with pytest.raises(ImageError, match="float"):
        next(LineScan(data, 10**6).bands([0], TILE))


def test_a_line_scan_that_is_to_be_turned_is_refused() -> None:
    for orientation in range(2, 9):
        with pytest.raises(ImageError, match=f"Orientation {orientation}"):
            LineScan(tiff(Image.fromarray(NOISE), tiffinfo={0x0112: orientation}), 10**6)
    upright = LineScan(tiff(Image.fromarray(NOISE), tiffinfo={0x0112: 1}), 10**6)
    np.testing.assert_array_equal(whole(upright, [0, 250, 500, 744]), NOISE)


def test_a_header_that_says_thousands_of_samples_a_pixel_is_refused() -> None:
    samples = struct.pack("<HHIH", 277, 3, 1, 3)  # SamplesPerPixel, a number of 16 bits
    data = tiff(Image.fromarray(NOISE))
    assert samples in data
    with pytest.raises(ImageError, match="4000 samples a pixel"):
        LineScan(data.replace(samples, struct.pack("<HHIH", 277, 3, 1, 4000)), 10**6)
