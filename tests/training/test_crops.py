from pathlib import Path

import numpy as np
import pytest

from tests.training.boards import write_boards
from training.config import CropConfig
from training.crops import CropSampler
from training.deeppcb import DatasetError, read_split

PLAIN = CropConfig(
    near_defect=1.0,
    scale_jitter=1.25,
    aspect_jitter=1.2,
    template_share=0,
    drawn_defects=0,
    threshold_jitter=0,
    level_jitter=0,
    min_visible=0.5,
)


def sampler(root: Path, config: CropConfig = PLAIN) -> CropSampler:
    return CropSampler(read_split(write_boards(root), "train"), config)


@pytest.mark.parametrize("mosaic", [False, True])
def test_boxes_stay_on_their_defects(mosaic: bool, tmp_path: Path) -> None:
    """Every drawn defect is a patch of other gray inside a track: the middle of its box must not be copper."""
    crops = sampler(tmp_path)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        crop = crops.draw(128, mosaic, rng)
        for x1, y1, x2, y2 in crop.boxes_xyxy:
            if x1 <= 0 or y1 <= 0 or x2 >= 128 or y2 >= 128 or (mosaic and (x1 < 64 < x2 or y1 < 64 < y2)):
                continue
            if mosaic and any(edge % 64 == 0 for edge in (x1, y1, x2, y2)):
                continue  # cut by a seam: its middle is elsewhere
            middle = crop.image[round((y1 + y2) / 2), round((x1 + x2) / 2)]
            assert middle > 80, (middle, x1, y1, x2, y2)
            seen += 1
    assert seen > 30


def test_the_same_generator_gives_the_same_crop(tmp_path: Path) -> None:
    everything = {"template_share": 0.5, "drawn_defects": 3, "threshold_jitter": 1, "level_jitter": 1}
    crops = sampler(tmp_path, PLAIN.model_copy(update=everything))
    one, other = (crops.draw(64, True, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / "images" / "11111001.jpg").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"11111001\.jpg"):
        CropSampler(read_split(tmp_path, "train"), PLAIN)


def test_templates_show_drawn_defects_only(tmp_path: Path) -> None:
    drawn = sampler(tmp_path / "drawn", PLAIN.model_copy(update={"template_share": 1, "drawn_defects": 3}))
    bare = sampler(tmp_path / "bare", PLAIN.model_copy(update={"template_share": 1}))
    rng = np.random.default_rng(0)
    assert sum(len(drawn.draw(128, False, rng).class_ids) for _ in range(20)) > 10
    assert sum(len(bare.draw(128, False, rng).class_ids) for _ in range(20)) == 0


def test_templates_that_are_missing_are_named(tmp_path: Path) -> None:
    write_boards(tmp_path)
    for template in (tmp_path / "templates").iterdir():
        template.unlink()
    with pytest.raises(DatasetError, match="template_share"):
        CropSampler(read_split(tmp_path, "train"), PLAIN.model_copy(update={"template_share": 0.5}))
