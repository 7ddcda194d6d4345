"""Inspections and feedback on SQLite and on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.answer import Box, DetectAnswer, Detection, ImageSize, ModelVersion, Timings, Understood
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError, ParameterError
from gateway.review.feedback import Corners, Feedback, FeedbackRequest, Judgement, Missed
from gateway.review.inspection import InspectionQuery
from gateway.review.sampling import Reason
from gateway.review.store import KeptImage, Record, ReviewStore, Total

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DEFECTS = {"short", "spur", "scratch"}
BOX = Corners(x1=0, y1=0, x2=10, y2=10)


def answer_of(request_id: str, *defects: str | None, **labels: str) -> DetectAnswer:
    """An answer with a detection for each defect; None stands for free words."""
    found = [
        Detection(
            id=f"{request_id}-{number}",
            defect=defect,
            severity="major",
            prompt=defect or "free words",
            score=0.5,
            box=Box(x1=number, y1=0, x2=number + 10, y2=10),
        )
        for number, defect in enumerate(defects)
    ]
    asked = [
        Understood(
            prompt=d or "free words",
            defect=d,
            asked=d or "free words",
            task="detect",
            box_colour=None,
            mask_colour=None,
            usual_threshold=0.5,
        )
        for d in dict.fromkeys(defects)
    ]
    return DetectAnswer(
        request_id=request_id,
        **{"board_id": None, "camera_id": None, "recipe": None} | labels,
        image=ImageSize(width=100, height=80),
        model=ModelVersion(name="m", version="1"),
        verdict="ng" if found else "ok",
        counts={defect: defects.count(defect) for defect in defects if defect},
        understood=asked,
        detections=found,
        timings_ms=Timings(decode=1, infer=1, postprocess=1, total=3),
    )


def record_of(
    answer: DetectAnswer, at: datetime = NOW, reason: Reason | None = None, kept: KeptImage | None = None
) -> Record:
    return Record(answer, at, [0.5] * len(answer.understood), reason, None, kept)


def sums_of(store: ReviewStore) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {(t.defect, t.outcome): (t.given, t.standing, t.complete) for t in store.totals()}


def feedback_of(request_id: str, *judgements: str, missed: int = 0, complete: bool = True) -> FeedbackRequest:
    """A judgement for each of the first detections."""
    return FeedbackRequest(
        request_id=request_id,
        detections=[
            Judgement(id=f"{request_id.partition('~')[0]}-{number}", judgement=judgement)  # type: ignore[arg-type]
            for number, judgement in enumerate(judgements)
        ],
        missed=[Missed(defect="scratch", box=BOX)] * missed,
        complete=complete,
    )


def names(store: ReviewStore, **query: str) -> list[str]:
    page = store.page(InspectionQuery.model_validate(query))
    return [inspection.request_id for inspection in page.inspections]


def test_inspections_are_found_by_what_they_are(store: ReviewStore) -> None:
    store.add(
        [
            record_of(answer_of("a", "short", "short", recipe="A7", camera_id="c1"), reason="near_threshold"),
            record_of(answer_of("b", "spur", recipe="A7", board_id="B-1"), reason="random"),
            record_of(answer_of("c")),
        ]
    )
    store.give_feedback(feedback_of("b", "right"), "me", DEFECTS)
    assert names(store) == ["c", "b", "a"]
    assert names(store, recipe="A7") == ["b", "a"]
    assert names(store, recipe="A7", state="open") == ["a"]
    assert names(store, state="reviewed") == names(store, reason="random") == names(store, board_id="B-1") == ["b"]
    assert names(store, defect="short") == names(store, camera_id="c1") == ["a"]
    assert names(store, defect="short", recipe="another") == []


def test_pages_hold_every_inspection_once_while_others_come(store: ReviewStore) -> None:
    store.add([record_of(answer_of(str(number))) for number in range(5)])
    first = store.page(InspectionQuery(limit=2))
    store.add([record_of(answer_of("later"))])
    second = store.page(InspectionQuery(limit=2, before=first.next))
    third = store.page(InspectionQuery(limit=2, before=second.next))
    pages = [[each.request_id for each in page.inspections] for page in (first, second, third)]
    assert (pages, third.next) == ([["4", "3"], ["2", "1"], ["0"]], None)


def test_a_request_id_that_repeats_means_the_newest_and_lists_name_each(store: ReviewStore) -> None:
    store.add([record_of(answer_of("same", "short"))])
    assert names(store) == ["same"]
    store.add([record_of(answer_of("same", "spur"))])
    newest, older = names(store)
    assert newest != older
    assert store.get("same").counts == store.get(newest).counts == {"spur": 1}
    assert store.get(older).counts == {"short": 1}
    assert store.give_feedback(feedback_of(older, "false"), "me", DEFECTS).request_id == older
    assert (store.get(older).reviewed, store.get("same").reviewed) == (True, False)


@pytest.mark.parametrize("name", ["nothing", "../../etc/passwd", "a~", "a~99", "a" * 500, "", "断路"])
def test_what_was_never_recorded_is_not_found(store: ReviewStore, name: str) -> None:
    store.add([record_of(answer_of("a"))])
    with pytest.raises(NotFoundError, match="no inspection"):
        store.get(name)
    with pytest.raises(NotFoundError, match="no inspection"):
        store.give_feedback(feedback_of(name), "me", DEFECTS)


def test_feedback_that_does_not_fit_names_every_fault_and_changes_nothing(store: ReviewStore) -> None:
    store.add([record_of(answer_of("a", "short"))])
    wrong = FeedbackRequest(
        request_id="a",
        detections=[Judgement(id="a-0", judgement="right")] * 2 + [Judgement(id="a-7", judgement="right")],
        missed=[
            Missed(defect="unheard_of", box=BOX),
            Missed(defect="short", box=Corners(x1=0, y1=0, x2=101, y2=10)),
            Missed(defect="short", box=Corners(x1=5, y1=0, x2=5, y2=10)),
        ],
        complete=True,
    )
    with pytest.raises(ParameterError) as caught:
        store.give_feedback(wrong, "me", DEFECTS)
    for fault in ("'a-7'", "'a-0' is judged 2 times", "'unheard_of'", "missed.1.box", "missed.2.box"):
        assert fault in str(caught.value)
    assert (store.get("a").feedback, store.totals()) == (None, [])


def test_a_correction_replaces_and_counters_never_fall(store: ReviewStore, database: Database) -> None:
    store.add([record_of(answer_of("a", "short", "short", None, recipe="A7"))])
    store.give_feedback(feedback_of("a", "right", "right", "false", missed=1, complete=False), "first", DEFECTS)
    assert sums_of(store) == {
        ("short", "right"): (2, 2, 0),
        ("other", "false"): (1, 1, 0),
        ("scratch", "missed"): (1, 1, 0),
    }
    corrected = store.give_feedback(feedback_of("a", "right", "false"), "second", DEFECTS)
    assert sums_of(store) == {
        ("short", "right"): (2, 1, 1),
        ("short", "false"): (1, 1, 1),
        ("other", "false"): (1, 0, 0),
        ("scratch", "missed"): (1, 0, 0),
    }
    assert store.get("a").feedback == corrected
    with database.connect() as connection:
        actors = connection.exec_driver_sql("SELECT actor FROM feedback ORDER BY id").scalars().all()
    assert actors == ["first", "second"]


def test_a_detection_below_the_threshold_is_no_call_of_the_line(store: ReviewStore) -> None:
    answer = answer_of("a", "short", "short", "spur", "spur")
    store.add([replace(record_of(answer), thresholds=[0.5, 0.6])])
    store.give_feedback(feedback_of("a", "right", "false", "right", "false"), "me", DEFECTS)
    assert sums_of(store) == {
        ("short", "right"): (1, 1, 1),
        ("short", "false"): (1, 1, 1),
        ("spur", "missed"): (1, 1, 1),  # the line let it pass
    }
    store.give_feedback(feedback_of("a", "right", "right", "false"), "me", DEFECTS)
    assert sums_of(store) == {
        ("short", "right"): (2, 2, 2),
        ("short", "false"): (1, 0, 0),
        ("spur", "missed"): (1, 0, 0),
    }


def test_feedback_that_replaces_what_its_author_did_not_see_is_refused(store: ReviewStore) -> None:
    store.add([record_of(answer_of("a", "short"))])

    def give(judgement: str, actor: str, **replaces: int | None) -> Feedback:
        said = feedback_of("a", judgement).model_dump(exclude={"replaces"}) | replaces
        return store.give_feedback(FeedbackRequest.model_validate(said), actor, DEFECTS)

    first = give("right", "first", replaces=None)
    with pytest.raises(ConflictError, match=f"none was seen, and feedback {first.id} by first at .* stands"):
        give("false", "second", replaces=None)
    second = give("false", "second", replaces=first.id)
    with pytest.raises(ConflictError, match=f"feedback {first.id} was seen, and feedback {second.id} by second at"):
        give("right", "first", replaces=first.id)
    assert store.get("a").feedback == second
    assert sums_of(store)["short", "right"] == (1, 0, 0)
    assert give("right", "third").id > second.id  # says nothing of what it saw


def test_feedback_that_replaces_some_where_there_is_none_is_refused(store: ReviewStore) -> None:
    store.add([record_of(answer_of("a"))])
    with pytest.raises(ConflictError, match="feedback 7 was seen, and none stands now"):
        store.give_feedback(FeedbackRequest(request_id="a", complete=True, replaces=7), "me", DEFECTS)
    assert store.get("a").feedback is None


def test_of_two_reviewers_who_saw_the_same_one_is_told(store: ReviewStore) -> None:
    store.add([record_of(answer_of("a", "short"))])
    said = FeedbackRequest.model_validate(feedback_of("a", "right").model_dump() | {"replaces": None})

    def give(actor: str) -> bool:
        try:
            store.give_feedback(said, actor, DEFECTS)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(give, "1234")) == 1


def test_feedback_given_at_once_is_counted_whole(store: ReviewStore) -> None:
    store.add([record_of(answer_of(str(number), "short")) for number in range(8)])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.give_feedback(feedback_of(str(n), "right"), "me", DEFECTS), range(8)))
    assert store.totals() == [Total("short", "", "right", 8, 8, 8)]


def test_an_inspection_comes_back_as_it_was(store: ReviewStore) -> None:
    answer = answer_of("a", "short", recipe="配方😀")
    store.add([record_of(answer, at=NOW - timedelta(days=1), kept=KeptImage("2026/11/26/x.png", "image/png", 7))])
    inspection = store.get("a")
    assert inspection.answer == answer.model_dump(mode="json")
    assert (inspection.at, inspection.recipe, inspection.thresholds) == (NOW - timedelta(days=1), "配方😀", [0.5])
    assert store.image_of("a") == KeptImage("2026/11/26/x.png", "image/png", 7)
    store.add([record_of(answer_of("b"))])
    with pytest.raises(NotFoundError, match="PCBD_IMAGE_STORE"):
        store.image_of("b")
