"""One answered picture as people see it again, and how they ask for it. Knows no database."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.answer import ModelVersion
from gateway.catalog.defect import DefectId
from gateway.request.parameters import Label
from gateway.review.feedback import Feedback
from gateway.review.sampling import Reason

MAX_PAGE = 200

State = Literal["open", "reviewed"]


class InspectionSummary(BaseModel):
    """A line of the list."""

    request_id: str  # names this very inspection; with ~ and a number where the client's own came more than once
    number: int  # REQUEST_ID~NUMBER names it too, for good
    at: datetime
    board_id: str | None
    camera_id: str | None
    recipe: str | None
    verdict: str
    model: ModelVersion
    counts: dict[str, int]
    reason: Reason | None  # why it is worth a look
    has_image: bool
    reviewed: bool


class Inspection(InspectionSummary):
    """All that is kept of it."""

    answer: dict[str, Any]  # of POST /detect, without `annotated`
    thresholds: list[float]  # the usual least score of each entry of the answer's `understood`
    feedback: Feedback | None


class InspectionPage(BaseModel):
    """Inspections, newest first; `next` is the `before` of the page that follows."""

    inspections: list[InspectionSummary]
    next: str | None


class InspectionQuery(BaseModel):
    """Which inspections to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: State | None = None
    reason: Reason | None = None
    recipe: Label | None = None
    camera_id: Label | None = None
    board_id: Label | None = None
    defect: DefectId | None = None  # that its answer has
    before: Annotated[str, Field(pattern="^[0-9]{1,18}$")] | None = None  # the `next` of the page before
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
