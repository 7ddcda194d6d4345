from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.defects import BARE_BOARD, Defect
from tests.training.boards import publish, write_boards
from training.data.check import check_coco
from training.data.coco import read_coco, write_coco
from training.data.dataset import DatasetError
from training.data.deeppcb import read_deeppcb
from training.data.source import join_datasets, read_dataset


def test_read_deeppcb_gives_boxes_groups_and_templates(tmp_path: Path) -> None:
    dataset = read_deeppcb(write_boards(tmp_path), "train")
    assert dataset.categories == BARE_BOARD
    assert len(dataset.samples) == 6
    assert {sample.group for sample in dataset.samples} == {"11111", "22222"}
    first = dataset.samples[0]
    line = (tmp_path / "annotations" / f"{first.path.stem}.txt").read_text().split()[:5]
    assert [*first.boxes_xyxy[0].tolist(), first.class_ids[0] + 1] == [int(field) for field in line]
    assert first.resolution_wh == (300, 300)
    assert first.template == tmp_path / "templates" / first.path.name


def test_what_differs_from_the_template_within_a_box_is_its_polygon(tmp_path: Path) -> None:
    """Each mark is 12 pixels wide and as high as the track that it lies on, 10, in a box of 30."""
    for sample in read_deeppcb(write_boards(tmp_path), "train").samples:
        for (x1, y1, x2, y2), (polygon,) in zip(sample.boxes_xyxy, sample.polygons, strict=True):
            np.testing.assert_allclose(polygon.min(axis=0), [x1 + 9, y1 + 10], atol=2)
            np.testing.assert_allclose(polygon.max(axis=0), [x2 - 9, y2 - 10], atol=2)


def test_without_a_template_no_polygon_is_known(tmp_path: Path) -> None:
    write_boards(tmp_path)
    for template in (tmp_path / "templates").iterdir():
        template.unlink()
    assert {sample.polygons for sample in read_deeppcb(tmp_path, "train").samples} == {((),) * 4}


def test_a_template_of_another_size_is_named(tmp_path: Path) -> None:
    write_boards(tmp_path)
    Image.new("L", (299, 300)).save(tmp_path / "templates" / "11111001.jpg")
    with pytest.raises(DatasetError, match=r"11111001\.jpg has \(299, 300\) pixels, expected \(300, 300\)"):
        read_deeppcb(tmp_path, "train")


def test_a_fault_of_one_board_hides_none_of_the_next_ones(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / "images" / "22222000.jpg").write_bytes(b"no picture")  # the first in the list
    Image.new("L", (299, 300)).save(tmp_path / "templates" / "11111001.jpg")
    with pytest.raises(DatasetError, match="2 faults") as error:
        read_deeppcb(tmp_path, "train")
    assert "11111001.jpg has (299, 300) pixels" in str(error.value)


def test_the_published_repository_is_read_as_well(tmp_path: Path) -> None:
    boards = read_deeppcb(write_boards(tmp_path / "boards"), "train")
    root = publish(tmp_path / "boards", tmp_path / "published")
    train, val = (read_deeppcb(root, split) for split in ("train", "val"))
    assert [len(split.samples) for split in (train, val)] == [4, 2]
    for one, other in zip(boards.samples, train.samples + val.samples, strict=True):
        assert other.path.name == f"{one.path.stem}_test.jpg"
        assert other.template == other.path.with_name(f"{one.path.stem}_temp.jpg")
        assert (one.group, one.resolution_wh) == (other.group, other.resolution_wh)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_array_equal(np.concatenate(one.polygons), np.concatenate(other.polygons))
    for folder in (root, root / "PCBData"):  # by the list's own name, and from within
        assert [each.path for each in read_deeppcb(folder, "trainval").samples] == [each.path for each in train.samples]


def test_faults_of_the_published_repository_are_named(tmp_path: Path) -> None:
    write_boards(tmp_path / "boards")
    data = publish(tmp_path / "boards", tmp_path) / "PCBData"
    (data / "group11111" / "11111" / "11111001_test.jpg").unlink()
    (data / "group22222" / "22222_not" / "22222002.txt").write_text("1 2 3\n")
    with (data / "trainval.txt").open("a") as listing:
        listing.write("group11111/11111/11111009.jpg\n")
    with pytest.raises(DatasetError, match="3 faults") as error:
        read_deeppcb(tmp_path, "train")
    for place in ("11111001_test.jpg", "22222002.txt:1", "trainval.txt:5"):
        assert place in str(error.value)


def test_read_deeppcb_names_every_fault_at_once(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / "images" / "11111001.jpg").unlink()
    (tmp_path / "images" / "11111003.jpg").write_bytes(b"no picture")
    (tmp_path / "annotations" / "22222000.txt").write_text("1 2 3 4 1\n10 10 5 20 1\n1 1 5 5 9\nnonsense\n")
    (tmp_path / "annotations" / "22222002.txt").write_text("1 2 300 300 1\n1 2 301 4 1\n1 2 3 ² 1\n", encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        read_deeppcb(tmp_path, "train")
    for place in (
        "11111001.jpg",
        "11111003.jpg",
        "22222000.txt:2",
        "22222000.txt:3",
        "22222000.txt:4",
        "22222002.txt:2",
        "22222002.txt:3",
    ):
        assert place in str(error.value)
    for sound in ("22222000.txt:1", "22222002.txt:1"):
        assert sound not in str(error.value)


def test_read_deeppcb_names_a_missing_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"test\.txt"):
        read_deeppcb(tmp_path, "test")


def test_a_converted_folder_is_read_as_the_folder_itself(tmp_path: Path) -> None:
    folder = read_deeppcb(write_boards(tmp_path / "boards"), "val")
    write_coco(folder, tmp_path / "val.json", {})
    assert [fault for fault in check_coco(tmp_path / "val.json") if fault.severity == "error"] == []
    file = read_coco(tmp_path / "val.json")
    assert file.categories == folder.categories
    for one, other in zip(file.samples, folder.samples, strict=True):
        assert (one.path.resolve(), one.group, one.resolution_wh) == (other.path, other.group, other.resolution_wh)
        assert one.template is not None
        assert one.template.resolve() == other.template
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    write_coco(read_deeppcb(write_boards(tmp_path / "boards"), "val"), tmp_path / "val.json", {})
    (tmp_path / "boards" / "templates" / "11111001.jpg").unlink()
    (fault,) = [fault for fault in check_coco(tmp_path / "val.json") if fault.severity == "error"]
    assert "11111001.jpg" in fault.message


def test_joined_datasets_share_their_categories(tmp_path: Path) -> None:
    one = read_dataset(write_boards(tmp_path), "train")
    swapped = type(one)(one.categories[::-1], one.samples)
    poor = type(one)(tuple(Defect(each.id, (each.id,), (), (), ()) for each in one.categories), ())
    joined = join_datasets([poor, one, swapped])
    assert [each.id for each in joined.categories] == [each.id for each in one.categories]
    for own, known in zip(joined.categories, one.categories, strict=True):
        assert set(own.names_en) == {own.id, *known.names_en}
        assert own.descriptions_zh == known.descriptions_zh
    assert len(joined.samples) == 12
    for first, second in zip(joined.samples[:6], joined.samples[6:], strict=True):
        np.testing.assert_array_equal(second.class_ids, 5 - first.class_ids)
