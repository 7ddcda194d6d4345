from pathlib import Path

import numpy as np
import pytest

from export.contract.defects import DEFECTS
from tests.training.data.coco_files import write_images
from training.data.check import check_coco
from training.data.coco import write_coco
from training.data.convert import from_voc, from_yolo
from training.data.dataset import Dataset, DatasetError

DEFECT = {defect.id: defect for defect in DEFECTS}


def assert_written_soundly(dataset: Dataset, folder: Path) -> None:
    write_coco(dataset, folder / "converted.json", {})
    assert [fault for fault in check_coco(folder / "converted.json") if fault.severity == "error"] == []


def write_voc(
    file: Path, objects: str, filename: str = "a.png", size: str = "<width>64</width><height>48</height>"
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><filename>{filename}</filename><size>{size}</size>{objects}</annotation>", encoding="utf-8"
    )


def voc_object(name: str, xmin: object, ymin: object, xmax: object, ymax: object) -> str:
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


def test_from_voc_counts_pixels_from_1_and_knows_synonyms(tmp_path: Path) -> None:
    write_images(tmp_path, ["JPEGImages/a.png", "JPEGImages/b.png"])
    # The whole image, a single pixel in the corner, and one with decimals; two names of one class.
    objects = voc_object("Mouse_Bite", 1, 1, 64, 48) + voc_object("缺口", 1, 1, 1, 1) + voc_object("dent", 2.5, 3, 4, 9)
    write_voc(tmp_path / "Annotations" / "a.xml", objects)
    write_voc(tmp_path / "Annotations" / "b.xml", "", filename="b.png")
    dataset = from_voc(tmp_path)
    first, good = dataset.samples
    np.testing.assert_array_equal(first.boxes_xyxy, np.float32([[0, 0, 64, 48], [0, 0, 1, 1], [1.5, 2, 4, 9]]))
    names = [dataset.categories[class_id].id for class_id in first.class_ids]
    assert names == ["mousebite", "mousebite", "dent"]
    assert DEFECT["mousebite"] in dataset.categories
    assert len(dataset.categories) == 2
    assert (good.path.name, good.boxes_xyxy.shape) == ("b.png", (0, 4))
    assert_written_soundly(dataset, tmp_path)


def test_from_voc_finds_images_beside_the_annotations_and_takes_a_split(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    write_voc(tmp_path / "a.xml", voc_object("短路", 3, 4, 10, 12))
    write_voc(tmp_path / "b.xml", "", filename="b.png")
    assert from_voc(tmp_path).categories == (DEFECT["short"],)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    assert [sample.path.name for sample in from_voc(tmp_path, "val").samples] == ["b.png"]


def test_from_voc_says_where_boxes_count_from_0_and_takes_them_as_edges(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    write_voc(tmp_path / "a.xml", voc_object("short", 0, 5, 64, 48) + voc_object("short", 7, 0.5, 9, 9))
    with pytest.raises(DatasetError, match="2 faults") as error:
        from_voc(tmp_path)
    assert str(error.value).count("--zero-based") == 2
    (sample,) = from_voc(tmp_path, zero_based=True).samples
    np.testing.assert_array_equal(sample.boxes_xyxy, np.float32([[0, 5, 64, 48], [7, 0.5, 9, 9]]))


def test_from_voc_names_every_fault_at_once(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    boxes = [(0, 1, 5, 5), (1, 1, 65, 5), (9, 1, 5, 5), ("x", 1, 5, 5), ("nan", 1, 5, 5), (1, 1, 5, 5)]
    write_voc(tmp_path / "boxes.xml", "".join(voc_object("short", *box) for box in boxes) + voc_object(" ", 1, 1, 2, 2))
    write_voc(tmp_path / "gone.xml", "", filename="gone.png")
    write_voc(tmp_path / "size.xml", "", size="<width>640</width><height>480</height>")
    (tmp_path / "broken.xml").write_text("<annotation><filename>")
    (tmp_path / "encoding.xml").write_text('<?xml version="1.0" encoding="nonsense"?><annotation/>')
    entity = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><annotation><filename>&e;</filename></annotation>'
    (tmp_path / "entity.xml").write_text(entity)
    with pytest.raises(DatasetError) as error:
        from_voc(tmp_path)
    for place in ("gone.xml", "size.xml", "broken.xml", "encoding.xml", "entity.xml"):
        assert place in str(error.value)
    for number in (1, 2, 3, 4, 5, 7):
        assert f"boxes.xml: object {number}:" in str(error.value)
    assert "object 6" not in str(error.value)


def write_yolo(folder: Path, names: str, **labels: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(f"names: {names}\n", encoding="utf-8")
    for stem, lines in labels.items():
        file = folder / "labels" / "train" / f"{stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines)


@pytest.mark.parametrize("names", ["[鼠咬, dent, Notch]", "{0: 鼠咬, 1: dent, 2: Notch}"], ids=["list", "mapping"])
def test_from_yolo_scales_boxes_and_polygons(tmp_path: Path, names: str) -> None:
    write_images(tmp_path, ["images/train/a.png", "images/val/b.png"])
    write_yolo(tmp_path, names, a="1 0.5 0.5 0.25 0.5\n\n2 0.25 0.5 0.75 0.5 0.5 1.0\n0 0.1 0.1 0.2 0.2\n")
    dataset = from_yolo(tmp_path)
    assert [entry.id for entry in dataset.categories] == ["mousebite", "dent"]
    first, good = dataset.samples
    # 64x48: the box's centre is (32, 24), its size (16, 24); the polygon's points are scaled by 64 and 48.
    expected = np.float32([[24, 12, 40, 36], [16, 24, 48, 48], [0, 0, 12.8, 9.6]])
    np.testing.assert_allclose(first.boxes_xyxy, expected, atol=1e-5)
    assert first.class_ids.tolist() == [1, 0, 0]
    assert [len(polygons) for polygons in first.polygons] == [0, 1, 0]
    np.testing.assert_array_equal(first.polygons[1][0], np.float32([[16, 24], [48, 24], [32, 48]]))
    assert (good.path.name, len(good.class_ids)) == ("b.png", 0)
    assert [sample.path.name for sample in from_yolo(tmp_path, "train").samples] == ["a.png"]
    assert_written_soundly(dataset, tmp_path)


def test_from_yolo_refuses_images_whose_labels_lie_elsewhere(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/train/a.png"])
    write_yolo(tmp_path, "[dent]")
    (tmp_path / "images" / "train" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")  # as LabelImg has them
    with pytest.raises(DatasetError, match="labels is missing"):
        from_yolo(tmp_path)


def test_from_yolo_passes_over_the_list_of_classes_beside_the_labels(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/train/a.png"])
    write_yolo(tmp_path, "[dent]", a="0 0.5 0.5 0.25 0.5\n", classes="dent\n")
    (tmp_path / "labels" / "classes.txt").write_text("dent\n")
    assert [len(sample.class_ids) for sample in from_yolo(tmp_path).samples] == [1]


def test_from_yolo_reads_folders_as_roboflow_sorts_them(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/images/a.png", "valid/images/a.png", "valid/images/good.png"])
    write_yolo(tmp_path, "[dent, short]")
    for split, line in (("train", "0 0.5 0.5 0.25 0.5"), ("valid", "1 0.5 0.5 0.5 0.5")):
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text(line)
    samples = from_yolo(tmp_path).samples
    assert [sample.path.parent.parent.name for sample in samples] == ["train", "valid", "valid"]
    assert [sample.class_ids.tolist() for sample in samples] == [[0], [1], []]
    assert [sample.path for sample in from_yolo(tmp_path, "valid").samples] == [sample.path for sample in samples[1:]]
    with pytest.raises(DatasetError, match="test/images/"):
        from_yolo(tmp_path, "test")


def test_names_that_differ_only_in_writing_are_one_class(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/train/a.png"])
    write_yolo(tmp_path, "[Deep_Dent, deep dent]", a="0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.5 0.5\n")
    dataset = from_yolo(tmp_path)
    assert [entry.id for entry in dataset.categories] == ["Deep_Dent"]
    assert dataset.samples[0].class_ids.tolist() == [0, 0]
    assert_written_soundly(dataset, tmp_path)


def test_from_yolo_names_every_fault_with_its_line(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/train/a.png"])
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "7 0.5 0.5 0.2 0.2",
        "0 0.9 0.5 0.4 0.2",
        "0 0.5 0.5 0 0.2",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 0.9",
        "a 0.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "0 1e999 0.5 1e999 0.2",
        "0 1.005 0.5 0.009 0.2",
        "0 0.1 0.1 0.9 0.1 0.5 1.5",
        "0 0.1 0.1 0.3 0.3 0.5 0.5",
    ]
    write_yolo(tmp_path, "[short]", a="\n".join(lines), orphan="")
    (tmp_path / "images" / "train" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError) as error:
        from_yolo(tmp_path)
    for number in range(2, len(lines) + 1):
        assert f"a.txt:{number}: " in str(error.value)
    assert "a.txt:1: " not in str(error.value)
    assert "orphan.txt" in str(error.value)
    assert "b.png" in str(error.value)


@pytest.mark.parametrize("names", ["3", "[short, 5]", "{a: short}", "[", "[]"])
def test_from_yolo_names_faulty_names(tmp_path: Path, names: str) -> None:
    write_images(tmp_path, ["images/a.png"])
    write_yolo(tmp_path, names)
    with pytest.raises(DatasetError, match=r"data\.yaml"):
        from_yolo(tmp_path)


@pytest.mark.parametrize("convert", [from_voc, from_yolo])
def test_an_empty_folder_is_a_dataset_error(tmp_path: Path, convert: object) -> None:
    assert callable(convert)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetError, match=str(folder)):
            convert(folder, "train")
