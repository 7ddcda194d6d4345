import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.defects import DEFECTS, Defect
from training.data.dataset import DatasetError, has_all_names, known_category, read_resolution_wh
from training.data.images import read_image


def test_known_category_finds_every_name_however_written() -> None:
    for defect in DEFECTS:
        for name in (defect.id, *defect.names_en, *defect.names_zh):
            for written in (name, name.upper(), name.replace(" ", "_"), f" {name} "):
                assert known_category(written) == defect


def test_known_category_keeps_other_names_by_language() -> None:
    assert known_category("Dent") == Defect("Dent", ("Dent",), (), (), ())
    assert known_category("凹痕 A") == Defect("凹痕 A", (), ("凹痕 A",), (), ())


@pytest.mark.parametrize(
    ("category", "whole"),
    [
        (DEFECTS[0], True),
        (Defect("open", (*DEFECTS[0].names_en[::-1], "cut line"), DEFECTS[0].names_zh, (), ()), True),
        (Defect("open", ("open",), (), (), ()), False),
        (Defect("dent", ("dent",), (), (), ()), False),
    ],
)
def test_a_known_defect_is_one_with_every_name_in_whatever_order(category: Defect, whole: bool) -> None:
    assert has_all_names(category) == whole


def chunk(kind: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("size", [(12_000, 10_000), (16_384, 16_384)], ids=["panel", "line scan"])
def test_read_resolution_wh_reads_headers_of_large_pictures(size: tuple[int, int], tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert read_resolution_wh(tmp_path / "large.png") == size


def test_read_resolution_wh_is_of_the_pixels_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    Image.new("L", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_resolution_wh(tmp_path / "turned.jpg") == (40, 20)


def tiff(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(800, dtype=np.uint8).reshape(20, 40)).save(path, exif=exif)
    return path


def test_a_tiff_that_is_to_be_turned_is_refused(tmp_path: Path) -> None:
    for orientation in range(2, 9):
        with pytest.raises(DatasetError, match=r"turned\.tiff.*orientation"):
            read_resolution_wh(tiff(tmp_path / "turned.tiff", orientation))


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_a_tiff_that_is_upright_or_says_nonsense_is_read_as_stored(orientation: int, tmp_path: Path) -> None:
    path = tiff(tmp_path / "upright.tiff", orientation)
    assert read_resolution_wh(path) == (40, 20)
    np.testing.assert_array_equal(read_image(path)[..., 0], np.arange(800, dtype=np.uint8).reshape(20, 40))


def test_read_resolution_wh_tells_missing_from_unreadable(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (("none.png", "missing"), ("text.png", "not a readable image")):
        with pytest.raises(DatasetError, match=reason):
            read_resolution_wh(tmp_path / name)
