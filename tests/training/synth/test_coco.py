import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.conftest import run_module
from training.synth.coco import ANNOTATIONS, SynthError, write_dataset
from training.synth.picture import CATEGORIES, MEAN_DEFECTS

SIZE = 200


def write(folder: Path, count: int, workers: int = 1) -> dict[str, Any]:
    write_dataset(folder, count, seed=4, size=SIZE, kind="train", mean_defects=MEAN_DEFECTS, workers=workers)
    document: dict[str, Any] = json.loads((folder / ANNOTATIONS).read_text(encoding="utf-8"))
    return document


def test_bytes_depend_neither_on_count_nor_on_workers(tmp_path: Path) -> None:
    few, many = write(tmp_path / "few", 2), write(tmp_path / "many", 4, workers=2)
    for image in few["images"]:
        file = image["file_name"]
        assert (tmp_path / "few" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()
    shared = {image["id"] for image in few["images"]}
    assert few["annotations"] == [each for each in many["annotations"] if each["image_id"] in shared]


def test_the_command_writes_a_consistent_dataset(tmp_path: Path) -> None:
    out = tmp_path / "data"
    result = run_module("training.synth", "--n", "6", "--out", str(out), "--size", str(SIZE), "--seed", "1")
    assert result.returncode == 0, result.stderr
    document = json.loads((out / ANNOTATIONS).read_text(encoding="utf-8"))
    assert sorted(path.name for path in out.iterdir()) == [ANNOTATIONS, "images"]
    assert {f"images/{path.name}" for path in (out / "images").iterdir()} == {
        image["file_name"] for image in document["images"]
    }
    assert len({image["group"] for image in document["images"]}) == 6
    for image in document["images"]:
        pixels = cv2.imread(str(out / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert sum(image["hard_negatives"].values()) > 0
    texts = document["text_descriptions"]
    assert [category["name"] for category in document["categories"]] == list(CATEGORIES)
    assert document["annotations"]
    for holder in document["categories"] + document["annotations"]:
        assert set(holder["description_ids"]) <= set(texts)
    images = {image["id"] for image in document["images"]}
    for annotation in document["annotations"]:
        assert annotation["image_id"] in images
        assert set(annotation["attributes"]) == {"shape", "colour", "place", "component"}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    result = run_module("training.synth", "--n", "1", "--out", str(tmp_path))
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_everything_wrong_with_a_request_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(
        SynthError, match=r"(?s)--n is 0.*--size is 16.*--defects is 0.5.*--blemishes is 7.*not an empty"
    ):
        write_dataset(tmp_path, 0, seed=0, size=16, kind="train", mean_defects=0.5, blemish_share=7, workers=1)
