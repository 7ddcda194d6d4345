"""What people say of an inspection: which detections are right, which are false, and what was missed.

Knows no database and no HTTP.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.catalog.defect import Text, at_most
from gateway.request.parameters import MAX_DETECTIONS
from gateway.review.recorded import RecordedAnswer, faint
from gateway.telemetry.metrics import OTHER_WORDS

MAX_MISSED = 1000
REPLACES = "The id of the feedback that its author saw, null for none: 409 where another stands. Left out: any."

Outcome = Literal["right", "false", "missed"]
Pixels = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Comment = Annotated[str, StringConstraints(max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # null says something else than nothing


class Corners(_Strict):
    """Of a box, in pixels of the image as sent."""

    x1: Pixels
    y1: Pixels
    x2: Pixels
    y2: Pixels


class Judgement(_Strict):
    """Whether a detection shows what it says."""

    id: str  # of a detection of the answer
    judgement: Literal["right", "false"]


class Missed(_Strict):
    """A defect that the answer does not have."""

    defect: str  # an id of the catalog
    box: Corners
    description: Text | None = None  # a sentence about this very defect; training learns from it


class Judged(_Strict):
    """What is said of one inspection."""

    detections: Annotated[list[Judgement], at_most(MAX_DETECTIONS)] = []
    missed: Annotated[list[Missed], at_most(MAX_MISSED)] = []
    complete: bool  # the whole picture was looked at: nothing else was missed
    comment: Comment | None = None


class FeedbackRequest(Judged):
    """POST /feedback."""

    request_id: str
    replaces: Annotated[int | None, Field(description=REPLACES, json_schema_extra=_without_default)] = None

    def expects(self, standing: int | None) -> bool:
        """Whether it was said in view of the feedback that stands, by its id; None where there is none."""
        return "replaces" not in self.model_fields_set or self.replaces == standing


class Feedback(Judged):
    """As it is stored."""

    id: int
    request_id: str
    at: datetime
    actor: str


def faults_of(judged: Judged, answer: RecordedAnswer, defects: Collection[str]) -> list[str]:
    """What of it does not fit to the answer or to the ids of the catalog's defects."""
    known = {found.id for found in answer.detections}
    times = Counter(judgement.id for judgement in judged.detections)
    faults = [f"detections: {each!r} is no detection of this inspection" for each in times if each not in known]
    faults += [f"detections: {each!r} is judged {count} times" for each, count in times.items() if count > 1]
    width, height = answer.image.width, answer.image.height
    for index, missed in enumerate(judged.missed):
        box = missed.box
        if missed.defect not in defects:
            faults.append(f"missed.{index}.defect: {missed.defect!r} is not in the catalog; GET /defects lists what is")
        if not (box.x1 < box.x2 <= width and box.y1 < box.y2 <= height):
            corners = f"{box.x1:g}, {box.y1:g}, {box.x2:g}, {box.y2:g}"
            faults.append(
                f"missed.{index}.box: {corners} is no box in the image; expected 0 <= x1 < x2 <= {width} "
                f"and 0 <= y1 < y2 <= {height}"
            )
    return faults


def outcomes(judged: Judged, answer: RecordedAnswer, thresholds: Sequence[float]) -> Counter[tuple[str, Outcome]]:
    """How often each outcome was said of each defect; OTHER_WORDS stands for words that name none.

    What lies below `thresholds`, the usual least score of each entry of `understood`, the line let pass: it is no false
    call, and missed where it is right.
    """
    defect_of = {found.id: found.defect or OTHER_WORDS for found in answer.detections}
    counted: Counter[tuple[str, Outcome]] = Counter()
    below = faint(answer, thresholds)
    for judgement in judged.detections:
        if judgement.id not in below:
            counted[defect_of[judgement.id], judgement.judgement] += 1
        elif judgement.judgement == "right":
            counted[defect_of[judgement.id], "missed"] += 1
    for missed in judged.missed:
        counted[missed.defect, "missed"] += 1
    return counted
