import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.training.data.coco_files import full_tree, write_images, write_tree
from training.data.check import Fault, check_coco
from training.data.coco import read_coco
from training.data.dataset import DatasetError

Tree = dict[str, Any]


def put(*keys: str | int, value: object) -> Callable[[Tree], None]:
    """A change that sets one node of a tree."""

    def change(tree: Tree) -> None:
        node: Any = tree
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


def drop(section: str) -> Callable[[Tree], None]:
    return lambda tree: tree.pop(section)


def repeat_category(tree: Tree) -> None:
    tree["categories"][1]["id"] = tree["annotations"][0]["category_id"] = 7


def test_a_sound_file_has_no_faults(tmp_path: Path) -> None:
    assert check_coco(write_tree(tmp_path, full_tree())) == []


def test_the_example_in_the_docs_is_sound(tmp_path: Path) -> None:
    example = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("```json\n")[1].split("```")[0]
    write_images(tmp_path, [f"images/board-{number}.png" for number in (17, 18, 19)], resolution_wh=(640, 480))
    (tmp_path / "train.json").write_text(example, encoding="utf-8")
    assert check_coco(tmp_path / "train.json") == []


# The change, the place of its only fault, and what the message must name.
FAULTS: dict[str, tuple[Callable[[Tree], None], str, str]] = {
    "no images section": (drop("images"), "images", "missing"),
    "no annotations section": (drop("annotations"), "annotations", "missing"),
    "no categories section": (drop("categories"), "categories", "missing"),
    "section of another type": (put("annotations", value={"a": 1}), "annotations", "list"),
    "texts of another type": (put("text_descriptions", value=["x"]), "text_descriptions", "object"),
    "entry of another type": (put("images", 2, value=None), "images[2] (id None)", "None"),
    "id as text": (put("annotations", 0, "id", value="100"), "annotations[0] (id '100')", "id"),
    "repeated image id": (put("images", 2, "id", value=11), "images[2] (id 11)", "images[1]"),
    "repeated category id": (repeat_category, "categories[1] (id 7)", "categories[0]"),
    "repeated annotation id": (put("annotations", 1, "id", value=100), "annotations[1] (id 100)", "annotations[0]"),
    "repeated file": (put("images", 2, "file_name", value="images/a.png"), "images[2] (id 12)", "images[0]"),
    "unknown image": (put("annotations", 0, "image_id", value=5), "annotations[0] (id 100)", "image_id 5"),
    "unknown category": (put("annotations", 0, "category_id", value=5), "annotations[0] (id 100)", "category_id 5"),
    "unknown text of an image": (put("images", 2, "description_ids", value=["x"]), "images[2] (id 12)", "'x'"),
    "unknown text of a category": (put("categories", 1, "description_ids", value=["x"]), "categories[1] (id 3)", "'x'"),
    "unknown text of a box": (put("annotations", 1, "description_ids", value=["x"]), "annotations[1] (id 101)", "'x'"),
    "text id of another type": (put("images", 2, "description_ids", value=[1]), "images[2] (id 12)", "description_ids"),
    "missing image": (put("images", 2, "file_name", value="no.png"), "images[2] (id 12)", "no.png"),
    "unreadable image": (put("images", 2, "file_name", value="train.json"), "images[2] (id 12)", "train.json"),
    "folder as image": (put("images", 2, "file_name", value="images"), "images[2] (id 12)", "images"),
    "null in a file name": (put("images", 2, "file_name", value="a\0.png"), "images[2] (id 12)", "file_name"),
    "long file name": (put("images", 2, "file_name", value="a" * 5000), "images[2] (id 12)", "file_name"),
    "another width": (put("images", 2, "width", value=63), "images[2] (id 12)", "64x48"),
    "zero height": (put("images", 2, "height", value=0), "images[2] (id 12)", "height"),
    "box outside": (put("annotations", 0, "bbox", value=[60, 1, 5, 5]), "annotations[0] (id 100)", "64x48"),
    "box before 0": (put("annotations", 0, "bbox", value=[-1, 1, 5, 5]), "annotations[0] (id 100)", "-1"),
    "flat box": (put("annotations", 0, "bbox", value=[1, 1, 5, 0]), "annotations[0] (id 100)", "area"),
    "negative box": (put("annotations", 0, "bbox", value=[9, 9, -5, -5]), "annotations[0] (id 100)", "area"),
    "three numbers": (put("annotations", 0, "bbox", value=[1, 1, 5]), "annotations[0] (id 100)", "bbox"),
    "number as text": (put("annotations", 0, "bbox", 3, value="8"), "annotations[0] (id 100)", "bbox[3]"),
    "infinite number": (put("annotations", 0, "bbox", 3, value=float("inf")), "annotations[0] (id 100)", "bbox[3]"),
    "not a number": (put("annotations", 0, "bbox", 3, value=float("nan")), "annotations[0] (id 100)", "bbox[3]"),
    "huge number": (put("annotations", 0, "bbox", 3, value=10**400), "annotations[0] (id 100)", "bbox[3]"),
    "two points": (
        put("annotations", 0, "segmentation", value=[[1, 1, 2, 2]]),
        "annotations[0] (id 100)",
        "segmentation[0]",
    ),
    "half a point": (
        put("annotations", 0, "segmentation", value=[[1, 1, 2, 2, 3, 1, 5]]),
        "annotations[0] (id 100)",
        "segmentation[0]",
    ),
    "points on a line": (
        put("annotations", 0, "segmentation", value=[[10.1, 20.1, 12.2, 22.2, 14.3, 24.3]]),
        "annotations[0] (id 100)",
        "area",
    ),
    "point outside": (
        put("annotations", 0, "segmentation", value=[[1, 1, 2, 2, 65, 1]]),
        "annotations[0] (id 100)",
        "segmentation[0]",
    ),
    "run-length mask": (
        put("annotations", 0, "segmentation", value={"counts": [1], "size": [48, 64]}),
        "annotations[0] (id 100)",
        "segmentation",
    ),
    "crowd": (put("annotations", 0, "iscrowd", value=1), "annotations[0] (id 100)", "iscrowd"),
    "blank text": (put("text_descriptions", "defect_001", value=" \u3000"), "text_descriptions['defect_001']", "3000"),
    "text of another type": (put("text_descriptions", "defect_001", value=5), "text_descriptions['defect_001']", "5"),
    "blank name": (put("categories", 1, "name", value=""), "categories[1] (id 3)", "name"),
    "blank synonym": (put("categories", 0, "names", "en", value=[" "]), "categories[0] (id 7)", "names.en[0]"),
    "no synonym": (put("categories", 0, "names", value={"en": [], "zh": []}), "categories[0] (id 7)", "names"),
    "names in another language": (put("categories", 0, "names", "de", value=["kalt"]), "categories[0] (id 7)", "de"),
    "repeated name": (put("categories", 1, "name", value="cold_joint"), "categories[1] (id 3)", "categories[0]"),
    "two names of one defect": (put("categories", 1, "name", value="虚焊"), "categories[1] (id 3)", "categories[0]"),
    "a name of two classes": (
        put("categories", 1, "names", value={"en": ["dent", "Cold-Joint"]}),
        "categories[1] (id 3)",
        "'Cold-Joint'",
    ),
}


@pytest.mark.parametrize(("change", "place", "named"), FAULTS.values(), ids=FAULTS)
def test_check_coco_finds(tmp_path: Path, change: Callable[[Tree], None], place: str, named: str) -> None:
    tree = full_tree()
    change(tree)
    file = write_tree(tmp_path, tree)
    errors = [fault for fault in check_coco(file) if fault.severity == "error"]
    assert [fault.place for fault in errors] == [place]
    assert named in errors[0].message
    assert place in str(errors[0])
    with pytest.raises(DatasetError):
        read_coco(file)


def test_check_coco_finds_many_faults_at_once(tmp_path: Path) -> None:
    tree = full_tree()
    tree["images"][1]["width"] = 1
    tree["annotations"][0]["bbox"][2] = None
    tree["annotations"][1]["bbox"] = [60, 1, 10, 0]
    tree["categories"][0]["description_ids"].append("nowhere")
    places = [fault.place for fault in check_coco(write_tree(tmp_path, tree)) if fault.severity == "error"]
    assert sorted(places) == [
        "annotations[0] (id 100)",
        "annotations[1] (id 101)",
        "annotations[1] (id 101)",
        "categories[0] (id 7)",
        "images[1] (id 11)",
    ]


def test_an_unused_text_is_a_warning(tmp_path: Path) -> None:
    tree = full_tree()
    tree["text_descriptions"]["defect_009"] = "never used"
    faults = check_coco(write_tree(tmp_path, tree))
    assert [(fault.place, fault.severity) for fault in faults] == [("text_descriptions['defect_009']", "warning")]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"images": [],\n "annotations": [}', "train.json:2:18"),
        (b"", "train.json:1:1"),
        (b"[]", "train.json"),
        (b"null", "train.json"),
        (b"\xff\xfe{", "train.json"),
        (b"[" * 200_000, "train.json"),
        (b'{"images": ' + b"9" * 5000 + b"}", "train.json"),
    ],
    ids=["broken", "empty", "list", "null", "not UTF-8", "deep", "long number"],
)
def test_what_is_no_json_object_is_one_fault_with_its_place(tmp_path: Path, content: bytes, place: str) -> None:
    file = tmp_path / "train.json"
    file.write_bytes(content)
    assert [fault.place for fault in check_coco(file)] == [str(tmp_path / place)]
    with pytest.raises(DatasetError, match=r"train\.json"):
        read_coco(file)


def test_a_file_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    assert [fault.place for fault in check_coco(tmp_path / "none.json")] == [str(tmp_path / "none.json")]


def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path) -> None:
    file = write_tree(tmp_path, full_tree())
    file.write_text(file.read_text().replace('"defect_004": ', '"defect_001": "rust", "defect_004": '))
    assert ["defect_001" in fault.message for fault in check_coco(file)] == [True]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = write_tree(tmp_path, full_tree())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert check_coco(file) == []


def nodes(tree: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path to every node of a JSON tree."""
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


WILD = (None, True, False, 0, -1, 7, 1e308, -0.0, float("nan"), float("inf"), 10**30, 10**400, "", " ", "7", "\ud800")
WILD_TREES = ([], {}, [[]], [None], {"a": 1}, {"id": 10}, [[1, 2], 3], {"en": None}, ["images/a.png"], "a\0b", "..")


def test_no_mutant_of_a_file_raises_anything_but_a_dataset_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    valid = write_tree(tmp_path, full_tree(), "valid.json")
    read = 0
    for _ in range(300):
        tree: Any = full_tree()
        for _ in range(rng.randint(1, 3)):
            path = rng.choice([path for path in nodes(tree) if path])
            put(*path, value=copy.deepcopy(rng.choice(WILD + WILD_TREES)))(tree)
        file = write_tree(tmp_path, tree, "mutant.json")
        faults = check_coco(file)
        errors = [str(fault) for fault in faults if fault.severity == "error"]
        assert all(len(error.encode().splitlines()) == 1 for error in errors)
        check_coco(file, [valid])
        check_coco(valid, [file])
        try:
            read_coco(file)
            read += 1
            assert not errors
        except DatasetError:
            assert errors
    assert 0 < read < 100


def test_no_cut_or_flipped_file_raises(tmp_path: Path) -> None:
    rng = random.Random(0)
    content = write_tree(tmp_path, full_tree()).read_bytes()
    file = tmp_path / "cut.json"
    for _ in range(100):
        damaged = bytearray(content[: rng.randrange(len(content))])
        for _ in range(rng.randrange(3)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(damaged)
        assert check_coco(file)


def leaks(folder: Path, images: list[Tree]) -> list[Fault]:
    """The faults between full_tree and a second file that has these images."""
    train = write_tree(folder, full_tree())
    other: Tree = {"images": images, "annotations": [], "categories": []}
    return check_coco(train, [write_tree(folder, other, "val.json")])


def image(file_name: str, **more: str) -> Tree:
    return {"id": 1, "file_name": file_name, "width": 64, "height": 48, **more}


def test_splits_of_other_images_do_not_leak(tmp_path: Path) -> None:
    write_tree(tmp_path, full_tree())
    write_images(tmp_path, ["images/d.png"], seed=1)
    assert leaks(tmp_path, [image("images/d.png", group="lot-3")]) == []


def test_the_same_file_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    faults = leaks(tmp_path, [image("images/../images/b.png")])
    assert [(fault.place, fault.severity) for fault in faults] == [("images[1] (id 11)", "error")]


def test_the_same_missing_file_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    write_tree(tmp_path, full_tree())
    (tmp_path / "images" / "b.png").unlink()
    faults = leaks(tmp_path, [image("images/b.png"), {**image("a" * 5000), "id": 2}])
    assert [fault.place for fault in faults] == ["images[1] (id 11)"] * 2


def test_a_picture_in_a_format_that_training_cannot_read_is_a_fault(tmp_path: Path) -> None:
    file = write_tree(tmp_path, full_tree())
    Image.new("L", (64, 48)).save(tmp_path / "images" / "c.png", format="GIF")
    assert [fault.place for fault in check_coco(file)] == ["images[2] (id 12)"]


def test_the_same_pixels_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    write_tree(tmp_path, full_tree())
    shutil.copy(tmp_path / "images" / "c.png", tmp_path / "images" / "renamed.png")
    faults = leaks(tmp_path, [image("images/renamed.png")])
    assert [fault.place for fault in faults] == ["images[2] (id 12)"]
    assert "renamed.png" in faults[0].message


def test_the_same_group_in_two_splits_is_one_leak(tmp_path: Path) -> None:
    write_tree(tmp_path, full_tree())
    write_images(tmp_path, ["images/d.png", "images/e.png"], seed=1)
    images = [image("images/d.png", group="lot-1"), {**image("images/e.png", group="lot-1"), "id": 2}]
    assert [fault.place for fault in leaks(tmp_path, images)] == ["group 'lot-1'"]


def test_a_split_that_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text(json.dumps({"images": 3}))
    faults = check_coco(write_tree(tmp_path, full_tree()), [tmp_path / "val.json"])
    assert any("val.json" in fault.place and fault.severity == "error" for fault in faults)
