import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.coco_files import full_tree, write_images, write_tree
from training.data.check import check_coco
from training.data.dataset import DatasetError, read_resolution_wh

FORMATS = {
    "baseline.jpg": {},
    "progressive.jpg": {"progressive": True},
    "flat.png": {},
    "rows.bmp": {},
    "strips.tiff": {},
    "packed.tiff": {"compression": "tiff_lzw"},
    "lossy.webp": {},
}


def encoded(name: str, seed: int = 0, **more: object) -> bytes:
    """A noisy picture of 64 x 48 pixels as a file of that name."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, Image.registered_extensions()[Path(name).suffix], **FORMATS[name], **more)
    return stream.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_that_is_cut_off_is_refused_in_every_format(tmp_path: Path, name: str) -> None:
    file, content = tmp_path / name, encoded(name)
    for more in (b"", b"\0" * 1000, b"a camera's own"):  # what stands behind the end is no matter
        file.write_bytes(content + more)
        assert read_resolution_wh(file) == (64, 48)
    for length in (len(content) // 2, len(content) - 20):
        for padding in (b"", b"\0" * len(content)) if name.endswith(("jpg", "png")) else (b"",):
            file.write_bytes(content[:length] + padding)
            with pytest.raises(DatasetError, match=name):
                read_resolution_wh(file)


def test_the_end_of_a_preview_is_not_that_of_its_picture(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + encoded("baseline.jpg", seed=1)
    content = encoded("baseline.jpg", exif=exif)
    assert exif in content
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[:-100])
    assert read_resolution_wh(tmp_path / "whole.jpg") == (64, 48)
    with pytest.raises(DatasetError, match="cut off"):
        read_resolution_wh(tmp_path / "cut.jpg")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_check_finds_a_picture_and_a_template_that_are_cut_off(tmp_path: Path, name: str) -> None:
    tree = full_tree()
    tree["images"][1] |= {"file_name": f"images/{name}", "template": "images/template.png"}
    tree["images"][0]["file_name"] = "images/c.png"
    del tree["images"][2]
    file = write_tree(tmp_path, tree)
    write_images(tmp_path, [f"images/{name}", "images/template.png"])
    assert check_coco(file) == []
    for path in (tmp_path / "images" / name, tmp_path / "images" / "template.png"):
        path.write_bytes(path.read_bytes()[:-500])
    assert ["cut off" in fault.message for fault in check_coco(file)] == [True, True]
