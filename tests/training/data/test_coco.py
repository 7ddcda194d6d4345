import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from export.contract.defects import BARE_BOARD, DEFECTS, Defect
from tests.training.boards import write_boards
from tests.training.data.coco_files import full_tree, write_images, write_tree
from training.data.coco import read_coco, write_coco
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.deeppcb import read_deeppcb
from training.data.source import join_datasets

KNOWN = {defect.id: defect for defect in DEFECTS}


def assert_equal(one: Dataset, other: Dataset) -> None:
    """Every field the same, coordinates to the last bit."""
    assert one.categories == other.categories
    assert len(one.samples) == len(other.samples)
    for mine, its in zip(one.samples, other.samples, strict=True):
        assert mine.path.resolve() == its.path.resolve()
        for field in ("resolution_wh", "descriptions", "image_descriptions", "group"):
            assert getattr(mine, field) == getattr(its, field)
        for array, again in ((mine.boxes_xyxy, its.boxes_xyxy), (mine.class_ids, its.class_ids)):
            assert array.dtype == again.dtype
            np.testing.assert_array_equal(array, again)
        assert [len(polygons) for polygons in mine.polygons] == [len(polygons) for polygons in its.polygons]
        for polygon, again in zip(sum(mine.polygons, ()), sum(its.polygons, ()), strict=True):
            np.testing.assert_array_equal(polygon, again)


def test_read_coco_gives_words_boxes_and_sparse_labels(tmp_path: Path) -> None:
    dataset = read_coco(write_tree(tmp_path, full_tree()))
    assert dataset.categories == (
        Defect(
            "cold_solder_joint",
            ("cold joint",),
            ("虚焊", "冷焊"),
            ("a dull, grainy joint",),
            ("圆形焊点周围有黑色氧化痕迹",),
        ),
        KNOWN["scratch"],
    )
    first, described, good = dataset.samples
    assert (first.path, first.resolution_wh, first.group) == (tmp_path / "images" / "a.png", (64, 48), "lot-1")
    np.testing.assert_array_equal(first.boxes_xyxy, np.float32([[10, 20, 15.5, 28], [0.1, 0, 64, 48]]))
    assert first.class_ids.tolist() == [1, 0]
    assert [len(polygons) for polygons in first.polygons] == [1, 0]
    np.testing.assert_array_equal(first.polygons[0][0], np.float32([[10, 20], [15.5, 20], [12, 28]]))
    assert first.descriptions == (("cracked along the pin",), ())
    assert described.boxes_xyxy.shape == (0, 4)
    assert described.image_descriptions == ("板边有一道划痕",)
    assert (good.image_descriptions, good.group, len(good.class_ids)) == ((), "", 0)


def test_plain_coco_without_descriptions_is_read(tmp_path: Path) -> None:
    tree = full_tree()
    del tree["text_descriptions"]
    for entry in tree["images"] + tree["categories"] + tree["annotations"]:
        entry.pop("description_ids", None)
        entry.pop("names", None)
    tree["categories"][1]["name"] = "dent"
    assert read_coco(write_tree(tmp_path, tree)).categories == (
        KNOWN["cold_solder_joint"],
        Defect("dent", ("dent",), (), (), ()),
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"name": "Short_Circuit"}, KNOWN["short"]),
        ({"name": "short circuit", "names": {"zh": ["短路"]}}, Defect("short", (), ("短路",), (), ())),
        ({"name": "notch", "names": {"en": ["V-cut notch"]}}, Defect("notch", ("V-cut notch",), (), (), ())),
        ({"name": "class_7", "names": {"en": ["short"]}}, Defect("class_7", ("short",), (), (), ())),
    ],
    ids=["without names", "a name of the known defect", "other names", "an id of its own"],
)
def test_a_category_of_a_known_name_is_the_known_defect(
    tmp_path: Path, entry: dict[str, object], expected: Defect
) -> None:
    tree = full_tree()
    tree["categories"][1] = {"id": 3, **entry}
    assert read_coco(write_tree(tmp_path, tree)).categories[1] == expected


def test_sentences_of_a_known_defect_are_added_to_its_own(tmp_path: Path) -> None:
    tree = full_tree()
    tree["categories"][1] = {"id": 3, "name": "short", "description_ids": ["defect_002", "defect_004"]}
    (_, short) = read_coco(write_tree(tmp_path, tree)).categories
    assert short.descriptions_en == ("a dull, grainy joint", *KNOWN["short"].descriptions_en)
    assert short.descriptions_zh == ("板边有一道划痕", *KNOWN["short"].descriptions_zh)


def test_plain_coco_and_deeppcb_give_one_class_for_one_defect(tmp_path: Path) -> None:
    tree = full_tree()
    tree["categories"][1]["name"] = "short circuit"
    joined = join_datasets(
        [read_deeppcb(write_boards(tmp_path / "boards"), "train"), read_coco(write_tree(tmp_path, tree))]
    )
    assert [entry.id for entry in joined.categories] == [*(entry.id for entry in BARE_BOARD), "cold_solder_joint"]
    assert joined.samples[-3].class_ids.tolist() == [1, 6]


def test_datasets_that_give_one_name_to_two_classes_are_not_joined(tmp_path: Path) -> None:
    tree = full_tree()
    tree["categories"][1] |= {"name": "class_7", "names": {"en": ["Short-Circuit"]}}
    boards = read_deeppcb(write_boards(tmp_path / "boards"), "train")
    with pytest.raises(DatasetError, match="'short' and 'class_7' are both called 'Short-Circuit'"):
        join_datasets([boards, read_coco(write_tree(tmp_path, tree))])


def test_a_file_read_and_written_elsewhere_reads_the_same(tmp_path: Path) -> None:
    for folder in ("data", "labels"):
        (tmp_path / folder).mkdir()
    dataset = read_coco(write_tree(tmp_path / "data", full_tree()))
    write_coco(dataset, tmp_path / "labels" / "again.json", {"description": "一批电路板"})
    assert_equal(dataset, read_coco(tmp_path / "labels" / "again.json"))
    tree = json.loads((tmp_path / "labels" / "again.json").read_text(encoding="utf-8"))
    assert tree["info"] == {"description": "一批电路板"}
    assert tree["images"][0]["file_name"] == "../data/images/a.png"


def test_odd_coordinates_survive_writing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_images(tmp_path, ["a.png"])
    corners = np.sort(rng.uniform(0, 48, (200, 2, 2)), axis=1).astype(np.float32)
    outlines = tuple((rng.uniform(0, 48, (5, 2)).astype(np.float32),) for _ in corners)
    sample = Sample(
        path=tmp_path / "a.png",
        resolution_wh=(64, 48),
        boxes_xyxy=corners.reshape(-1, 4),
        class_ids=rng.integers(0, len(BARE_BOARD), len(corners)),
        polygons=outlines,
        descriptions=(("a dent", "凹痕"),) * len(corners),
        image_descriptions=("a dent",),
    )
    dataset = Dataset(BARE_BOARD, (sample,))
    write_coco(dataset, tmp_path / "odd.json", {})
    assert_equal(dataset, read_coco(tmp_path / "odd.json"))


def test_a_link_to_the_images_keeps_their_paths_right(tmp_path: Path) -> None:
    for folder in ("store", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "work" / "deep").symlink_to(tmp_path / "store", target_is_directory=True)
    dataset = read_coco(write_tree(tmp_path / "work", full_tree()))
    write_coco(dataset, tmp_path / "work" / "deep" / "train.json", {})
    assert_equal(dataset, read_coco(tmp_path / "store" / "train.json"))


def test_written_files_are_read_by_pycocotools(tmp_path: Path) -> None:
    write_coco(read_coco(write_tree(tmp_path, full_tree())), tmp_path / "again.json", {})
    coco = COCO(str(tmp_path / "again.json"))
    assert coco.getCatIds(catNms=["scratch"]) == [2]
    assert [entry["bbox"][:2] for entry in coco.loadAnns(coco.getAnnIds(catIds=[2]))] == [[10, 20]]


def test_read_coco_raises_all_errors_at_once_and_no_warnings(tmp_path: Path) -> None:
    tree = full_tree()
    tree["text_descriptions"]["defect_009"] = "never used"
    assert len(read_coco(write_tree(tmp_path, tree)).samples) == 3
    tree["annotations"][1]["category_id"] = 99
    tree["images"][2]["file_name"] = "images/gone.png"
    with pytest.raises(DatasetError) as error:
        read_coco(write_tree(tmp_path, tree))
    assert "annotations[1] (id 101)" in str(error.value)
    assert "images[2] (id 12)" in str(error.value)
    assert "defect_009" not in str(error.value)
