import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.boards.calibration import CalibrationError, calibration_tiles
from export.boards.labelled import LabelledError, judging_boards, read_boards, read_picture, training_boards
from tests.training.boards import publish, write_boards
from training.data.coco import read_coco
from training.prompts import names

TRAINED, HELD, OFFICIAL = 10, 90, 200  # grey levels: which picture a tile is of


def draw(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(int.from_bytes(path.stem.encode())).integers(
        0, 8, (96, 128), dtype=np.uint8
    ) + np.uint8(level)
    Image.fromarray(pixels).save(path, quality=100)


@pytest.fixture
def deeppcb(tmp_path: Path) -> Path:
    """Two boards that were learned from, one whose group judged, one of the official test."""
    root = tmp_path / "deeppcb"
    stems = {"20085001": TRAINED, "20085002": TRAINED, "50600001": HELD, "12000001": OFFICIAL}
    for stem, level in stems.items():
        draw(root / "images" / f"{stem}.jpg", level)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{stem}.txt").write_text("10 20 30 50 3\n")
    (root / "train.txt").write_text("20085001\n20085002\n50600001\n")
    (root / "val.txt").write_text("12000001\n")
    return root


@pytest.fixture
def checkpoint(deeppcb: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    data = {
        "sources": [{"path": str(deeppcb), "split": "train"}],
        "holdout_groups": ["50600"],
        "holdout": [{"path": str(deeppcb), "split": "val"}],
    }
    (folder / "manifest.json").write_text(json.dumps({"training": {"config": {"data": data}}}))
    return folder


def test_calibration_takes_only_pictures_that_were_learned_from(checkpoint: Path) -> None:
    tiles = calibration_tiles(checkpoint, 64, count=6)
    assert tiles.shape == (6, 64, 64, 3)
    assert tiles.max() < HELD
    assert len({tile.tobytes() for tile in tiles}) == 6


def test_calibration_draws_the_same_tiles_again(checkpoint: Path) -> None:
    np.testing.assert_array_equal(
        calibration_tiles(checkpoint, 64, count=4), calibration_tiles(checkpoint, 64, count=4)
    )


def test_calibration_takes_every_picture_before_more_of_one(tmp_path: Path, checkpoint: Path) -> None:
    for index in range(5):
        draw(tmp_path / "mine" / "line1" / f"{index}.png", 40 * index)
    tiles = calibration_tiles(checkpoint, 64, tmp_path / "mine", count=5)
    assert {int(tile.min()) // 40 for tile in tiles} == {0, 1, 2, 3, 4}


def test_calibration_with_enough_tiles_in_some_pictures_takes_them_there(tmp_path: Path, checkpoint: Path) -> None:
    """Ten pictures of one tile and ten of twelve: with the same share of each there would be 60."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    folder.mkdir()
    for index in range(20):
        side, level = (64, 0) if index < 10 else (192, 128)
        pixels = rng.integers(level, level + 128, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    tiles = calibration_tiles(checkpoint, 64, folder, count=100)
    assert len({tile.tobytes() for tile in tiles}) == 100
    assert sum(tile.max() < 128 for tile in tiles) == 10
    with pytest.raises(CalibrationError, match=r"20 pictures with 170 tiles"):
        calibration_tiles(checkpoint, 64, folder, count=171)


def test_calibration_draws_the_tiles_that_shipped_engines_were_calibrated_on(tmp_path: Path, checkpoint: Path) -> None:
    """Of pictures that have enough: a change here changes every int8 engine."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for index in range(3):  # each tile says where it lies
        rows, columns = np.mgrid[:192, :192]
        Image.fromarray(np.stack([0 * rows + index, rows, columns], axis=2).astype(np.uint8)).save(
            folder / f"{index}.png"
        )
    tiles = calibration_tiles(checkpoint, 64, folder, count=5)
    assert [tile[0, 0].tolist() for tile in tiles] == [[0, 0, 48], [0, 48, 0], [2, 128, 128], [2, 48, 96], [1, 96, 48]]


def test_calibration_with_too_few_pictures_says_what_was_found(checkpoint: Path) -> None:
    with pytest.raises(CalibrationError, match=r"500 tiles.*2 pictures.*--calibration"):
        calibration_tiles(checkpoint, 64)


def test_calibration_without_any_picture_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nowhere has 0 pictures.*--calibration"):
        calibration_tiles(checkpoint, 64, tmp_path / "nowhere")


@pytest.mark.parametrize("data", [{}, {"sources": [{"path": "/nowhere/deeppcb"}]}], ids=["unnamed", "gone"])
def test_calibration_without_the_training_data_is_refused(data: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"training": {"config": {"data": data}}}))
    with pytest.raises(CalibrationError, match="--calibration"):
        calibration_tiles(tmp_path, 64)


def test_labelled_pictures_are_those_that_judged_the_training(checkpoint: Path) -> None:
    judging, trained = (
        {board.path.stem for board in read(checkpoint).boards} for read in (judging_boards, training_boards)
    )
    assert judging == {"50600001", "12000001"}
    assert trained == {"20085001", "20085002"}


def test_labelled_pictures_have_their_boxes(deeppcb: Path) -> None:
    boards = read_boards(deeppcb, "val")
    assert boards.class_names[boards.boards[0].class_ids[0]] == "mousebite"
    np.testing.assert_array_equal(boards.boards[0].boxes_xyxy, [[10, 20, 30, 50]])


def test_labelled_boards_as_published_are_those_of_a_folder_sorted_anew(tmp_path: Path) -> None:
    sorted_anew = read_boards(write_boards(tmp_path / "boards"), "train")
    published = publish(tmp_path / "boards", tmp_path / "published")
    boards = [board for split in ("train", "val") for board in read_boards(published, split).boards]
    for one, other in zip(sorted_anew.boards, boards, strict=True):
        assert (one.group, one.path.stem + "_test") == (other.group, other.path.stem)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)


@pytest.mark.parametrize(
    "category",
    [
        {"name": "short"},
        {"name": "Short_Circuit"},
        {"name": "短路"},
        {"name": "dent"},
        {"name": "dent", "names": {"zh": ["凹痕"]}},
        {"name": "dent", "names": {"en": [], "zh": ["凹痕"]}},
        {"name": "dent", "names": {"en": ["dent mark", "dent"]}},
    ],
    ids=str,
)
def test_a_labelled_class_is_asked_for_as_training_does(category: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({"images": [], "annotations": [], "categories": [{"id": 1} | category]})
    )
    (learned,) = read_coco(tmp_path / "a.json").categories
    assert read_boards(tmp_path / "a.json").class_names == names(learned, "en")[:1]


def test_labelled_coco_file_has_the_same_boxes(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 7, "file_name": "a.png", "width": 9, "height": 9, "group": "lot"}],
        "categories": [{"id": 4, "name": "dent", "names": {"en": ["dent mark"], "zh": []}}, {"id": 2, "name": "short"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 20, 30]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    draw(tmp_path / "a.png", TRAINED)
    boards = read_boards(tmp_path / "a.json")
    assert boards.class_names == ("dent mark", "short circuit")
    assert (boards.boards[0].path, boards.boards[0].group) == (tmp_path / "a.png", "lot")
    assert boards.boards[0].class_ids.tolist() == [1]
    np.testing.assert_array_equal(boards.boards[0].boxes_xyxy, [[10, 20, 30, 50]])


def test_pictures_with_sparse_labels_calibrate_and_do_not_judge(tmp_path: Path) -> None:
    document = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 9, "height": 9},
            {"id": 2, "file_name": "b.png", "width": 9, "height": 9, "description_ids": ["dented"]},
        ],
        "categories": [{"id": 4, "name": "dent"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 20, 20, 30]}],
        "text_descriptions": {"dented": "a dent somewhere"},
    }
    (tmp_path / "own.json").write_text(json.dumps(document))
    for name in "ab":
        draw(tmp_path / f"{name}.png", TRAINED)
    data = {"sources": [{"path": str(tmp_path / "own.json")}]}
    (tmp_path / "manifest.json").write_text(json.dumps({"training": {"config": {"data": data}}}))
    assert [board.path.stem for board in training_boards(tmp_path).boards] == ["a", "b"]
    assert [board.path.stem for board in judging_boards(tmp_path, tmp_path / "own.json").boards] == ["a"]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_levels_of_16_bits_become_those_that_the_gateway_makes_of_them(suffix: str, tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(8, 32)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{suffix}")
    picture = read_picture(tmp_path / f"ramp.{suffix}")
    np.testing.assert_array_equal(picture, np.repeat(np.arange(256, dtype=np.uint8).reshape(8, 32, 1), 3, axis=2))


def test_a_picture_of_floating_point_pixels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(LabelledError, match=r"float\.tif.*floating-point"):
        read_picture(tmp_path / "float.tif")


def test_a_picture_is_read_however_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    Image.new("RGB", (8, 8)).save(tmp_path / "large.png")
    assert read_picture(tmp_path / "large.png").shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"cut.{suffix}"
    draw(file, TRAINED)
    whole = file.read_bytes()
    for share in (0, 0.02, 0.5):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(LabelledError, match=rf"cut\.{suffix} cannot be read.*leave it out"):
            read_picture(file)


def test_labelled_pictures_that_are_missing_are_named(deeppcb: Path) -> None:
    (deeppcb / "images" / "12000001.jpg").unlink()
    with pytest.raises(LabelledError, match=r"1 of 1 pictures.*12000001\.jpg"):
        read_boards(deeppcb, "val")


def test_labelled_pictures_without_any_box_judge_nothing(checkpoint: Path, deeppcb: Path) -> None:
    """Every detector would have mAP 0, PyTorch's too, and pass."""
    for stem in ("12000001", "50600001"):
        (deeppcb / "annotations" / f"{stem}.txt").write_text("")
    with pytest.raises(LabelledError, match="no box"):
        judging_boards(checkpoint, deeppcb)
    with pytest.raises(LabelledError, match="no box"):
        judging_boards(checkpoint)
    assert training_boards(checkpoint).boards


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_labelled_file_that_is_none_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(LabelledError, match=r"a\.json"):
        read_boards(tmp_path / "a.json")
