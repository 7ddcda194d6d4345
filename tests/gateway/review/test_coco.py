"""Which reviewed pictures training may learn from, and by which words."""

import json
from pathlib import Path

import pytest
from PIL import Image

from gateway.answer import Box
from gateway.catalog.defect import Defect, Names
from gateway.catalog.seeds import SEEDS
from gateway.review.coco import CocoFile, Confirmed, confirmed
from gateway.review.feedback import FeedbackRequest
from gateway.review.recorded import RecordedAnswer
from tests.gateway.review.test_store import answer_of, feedback_of
from training.data.check import check_coco


def recorded(*defects: str | None) -> RecordedAnswer:
    return RecordedAnswer.model_validate(answer_of("a", *defects).model_dump())


@pytest.mark.parametrize(
    ("feedback", "categories"),
    [
        (feedback_of("a", "right", "false", complete=False), ["short"]),
        (feedback_of("a", "right", "right", missed=1), ["short", "spur", "scratch"]),
        (feedback_of("a", "false", "false"), []),  # a hard negative
        (feedback_of("a", "false", "false", complete=False), None),  # something else may be there
        (feedback_of("a", "right"), None),  # the second was left open
    ],
)
def test_only_what_was_judged_to_the_end_is_learned_from(
    feedback: FeedbackRequest, categories: list[str] | None
) -> None:
    found = confirmed(recorded("short", "spur"), feedback, [0.5, 0.5])
    assert (found and [defect.category for defect in found]) == categories


@pytest.mark.parametrize(
    ("threshold", "complete", "categories"),
    [(0.55, True, ["short"]), (0.5, True, None), (0.55, False, None)],
    ids=["fainter than usual", "as usual", "not looked at whole"],
)
def test_what_is_fainter_than_usual_may_be_left_open_in_a_picture_that_was_looked_at_whole(
    threshold: float, complete: bool, categories: list[str] | None
) -> None:
    found = confirmed(recorded("short", "spur"), feedback_of("a", "right", complete=complete), [0.5, threshold])
    assert (found and [defect.category for defect in found]) == categories


def test_categories_carry_the_words_of_the_catalog_or_those_that_were_asked() -> None:
    answer = recorded("short", None, "deleted_since")
    file = CocoFile(SEEDS)
    file.add(
        "images/1.png", answer, None, confirmed(answer, feedback_of("a", "right", "right", "right"), [0.5] * 3) or []
    )
    tree = file.tree()
    short, free, deleted = tree["categories"]
    assert short["names"]["zh"][0] == "短路"
    assert len(short["description_ids"]) == 4
    assert (free["name"], free["names"]) == ("free words", {"en": ["free words"]})
    assert (deleted["name"], "description_ids" in deleted) == ("deleted_since", False)
    assert [annotation["bbox"] for annotation in tree["annotations"]] == [[n, 0, 10, 10] for n in range(3)]


BOX = Box(x1=0, y1=0, x2=10, y2=10)
GLUE = Defect(id="red_glue", names=Names(en=("red glue",)))


def free(words: str) -> Confirmed:
    return Confirmed(words, BOX, in_free_words=True)


@pytest.mark.parametrize(
    ("catalog", "defects", "categories"),
    [
        ([GLUE], [free("Red glue"), free("red glue"), Confirmed("red_glue", BOX)], ["red_glue"]),
        ([], [free("Red glue"), free("red-glue"), Confirmed("red_glue", BOX)], ["red glue"]),
        ([], [free("断路"), free("trace break"), Confirmed("open", BOX)], ["open"]),
        ([GLUE], [free("find all red-glue"), free("寻找 Red Glue 的位置"), Confirmed("red_glue", BOX)], ["red_glue"]),
        ([], [free("find open circuits"), free("寻找断路"), Confirmed("open", BOX)], ["open"]),
        (
            [GLUE],
            [free("red glue beside the pin"), Confirmed("red_glue", BOX)],
            ["red glue beside the pin", "red_glue"],
        ),
    ],
    ids=[
        "taught",
        "deleted",
        "deleted from the twelve",
        "asked for",
        "asked for, deleted from the twelve",
        "described",
    ],
)
def test_a_defect_is_one_category_however_it_was_asked_for(
    catalog: list[Defect], defects: list[Confirmed], categories: list[str], tmp_path: Path
) -> None:
    file = CocoFile(catalog)
    Image.new("L", (100, 80)).save(tmp_path / "1.png")
    assert file.can_tell_apart(defects)
    file.add("1.png", recorded(), None, defects)
    tree = file.tree()
    assert [category["name"] for category in tree["categories"]] == categories
    (tmp_path / "annotations.json").write_text(json.dumps(tree), encoding="utf-8")
    assert check_coco(tmp_path / "annotations.json") == []


def test_a_deleted_defect_is_not_taken_for_another_that_has_its_id_as_a_name_now() -> None:
    file = CocoFile([Defect(id="adhesive", names=Names(en=("free words",)))])
    answer = recorded(None)
    assert file.can_tell_apart(confirmed(answer, feedback_of("a", "right"), [0.5]) or [])
    assert not file.can_tell_apart([Confirmed("free_words", BOX)])
