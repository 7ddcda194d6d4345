from pathlib import Path

import pytest
from PIL import Image

from export.contract.defects import DEFECTS, Defect
from training.data.dataset import DatasetError, has_all_names, known_category, read_resolution_wh


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


def test_read_resolution_wh_reads_headers_of_large_pictures(tmp_path: Path) -> None:
    Image.new("1", (12_000, 10_000)).save(tmp_path / "panel.png")
    assert read_resolution_wh(tmp_path / "panel.png") == (12_000, 10_000)


def test_read_resolution_wh_is_of_the_pixels_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    Image.new("L", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_resolution_wh(tmp_path / "turned.jpg") == (40, 20)


def test_a_tiff_that_is_to_be_turned_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("L", (40, 20)).save(tmp_path / "turned.tiff", exif=exif)
    with pytest.raises(DatasetError, match=r"turned\.tiff.*orientation"):
        read_resolution_wh(tmp_path / "turned.tiff")


def test_read_resolution_wh_tells_missing_from_unreadable(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (("none.png", "missing"), ("text.png", "not a readable image")):
        with pytest.raises(DatasetError, match=reason):
            read_resolution_wh(tmp_path / name)
