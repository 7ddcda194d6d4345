"""Which reviewed pictures training may learn from, and by which words."""

import pytest

from gateway.catalog.seeds import SEEDS
from gateway.review.coco import CocoFile, confirmed
from gateway.review.feedback import FeedbackRequest
from gateway.review.recorded import RecordedAnswer
from tests.gateway.review.test_store import answer_of, feedback_of


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
