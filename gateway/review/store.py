"""Inspections and feedback in the database: records, lists, takes feedback, keeps the sums. Every call blocks.

An inspection's name is its request id, or `REQUEST_ID~NUMBER`, which names one of several that came under the same id.
The bare id means the newest. Lists give the longer name wherever the id alone would not do.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, defer

from gateway.answer import DetectAnswer, ModelVersion
from gateway.catalog.defect import MAX_FAULTS
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError, ParameterError
from gateway.review.feedback import Feedback, FeedbackRequest, Judged, Outcome, faults_of, outcomes
from gateway.review.inspection import Inspection, InspectionPage, InspectionQuery, InspectionSummary
from gateway.review.recorded import RecordedAnswer
from gateway.review.sampling import Reason
from gateway.review.tables import FeedbackRow, FoundRow, InspectionRow, ReviewStateRow, TotalRow

NAME = re.compile(r"([A-Za-z0-9._-]{1,80})(?:~([0-9]{1,18}))?")


@dataclass(frozen=True)
class KeptImage:
    """Where an inspection's picture lies in the image store."""

    path: str
    media_type: str
    size_bytes: int


@dataclass
class Record:
    """An answer on its way into the database; `image` until its bytes are kept, `kept` from then on."""

    answer: DetectAnswer
    at: datetime
    thresholds: list[float]
    reason: Reason | None
    image: bytes | None
    kept: KeptImage | None = None


@dataclass(frozen=True)
class Total:
    """How often people said something of a defect in a recipe; review/tables.py says what the numbers are."""

    defect: str
    recipe: str
    outcome: str
    given: int
    standing: int
    complete: int


class ReviewStore:
    """The inspections of one database. Every method raises DatabaseError where that does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[Record]) -> None:
        """Records all of them in one transaction, in this order."""
        with self._database.write() as session:
            rows = [_row(record) for record in records]
            session.add_all(rows)
            session.flush()
            for row, record in zip(rows, records, strict=True):
                found = {detection.defect for detection in record.answer.detections if detection.defect}
                session.add_all(FoundRow(defect=defect, inspection_id=row.id) for defect in found)

    def page(self, query: InspectionQuery) -> InspectionPage:
        """The inspections that a query means."""
        with self._database.read() as session:
            rows = session.scalars(_chosen(query).limit(query.limit + 1)).all()
            shown = rows[: query.limit]
            repeated = _repeated(session, [row.request_id for row in shown])
            return InspectionPage(
                inspections=[InspectionSummary(**_summary(row, repeated)) for row in shown],
                next=str(shown[-1].id) if len(rows) > query.limit else None,
            )

    def get(self, name: str) -> Inspection:
        """One inspection.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self._database.read() as session:
            row = _present(session, name)
            summary = _summary(row, _repeated(session, [row.request_id]))
            given = session.get(FeedbackRow, row.feedback_id) if row.feedback_id is not None else None
            feedback = _feedback(given, summary["request_id"]) if given else None
            return Inspection(**summary, answer=row.answer, thresholds=row.thresholds, feedback=feedback)

    def image_of(self, name: str) -> KeptImage:
        """Where an inspection's picture lies.

        Raises:
            NotFoundError: there is no such inspection, or no picture of it is kept.
        """
        with self._database.read() as session:
            row = _present(session, name)
            if row.image_path is None:
                raise NotFoundError(
                    f"no picture of inspection {name!r} is kept; those worth a look are, where PCBD_IMAGE_STORE is set"
                )
            return KeptImage(row.image_path, row.image_media_type or "", row.image_bytes or 0)

    def give_feedback(self, given: FeedbackRequest, actor: str, defects: Collection[str]) -> Feedback:
        """Makes this what holds of an inspection; what was said before stays as history. `defects`: the catalog's ids.

        Raises:
            NotFoundError: there is no such inspection.
            ParameterError: it does not fit to the inspection or to the catalog; lists every fault.
            ConflictError: it replaces other feedback than what stands.
        """
        judged = Judged(**{name: getattr(given, name) for name in Judged.model_fields})
        with self._database.write() as session:
            take_turn(session)
            row = _present(session, given.request_id)
            answer = RecordedAnswer.model_validate(row.answer)
            if faults := faults_of(judged, answer, defects):
                raise ParameterError("; ".join(faults[:MAX_FAULTS]))
            former = session.get(FeedbackRow, row.feedback_id) if row.feedback_id is not None else None
            if not given.expects(row.feedback_id):
                raise ConflictError(_conflict(given, former))
            stored = FeedbackRow(
                inspection_id=row.id, at=datetime.now(UTC), actor=actor, content=judged.model_dump(mode="json")
            )
            session.add(stored)
            session.flush()
            row.feedback_id, row.exported_at = stored.id, None
            count(session, row, answer, former, judged)
            name = _name(row, _repeated(session, [row.request_id]))
            return _feedback(stored, name)

    def totals(self) -> list[Total]:
        """Every sum, in one query."""
        with self._database.read() as session:
            columns = [getattr(TotalRow, name) for name in Total.__dataclass_fields__]
            return [Total(*row) for row in session.execute(select(*columns))]


def take_turn(session: Session) -> ReviewStateRow:
    """The one row of state, locked until the transaction ends."""
    return session.scalars(select(ReviewStateRow).with_for_update()).one()


def count(
    session: Session, row: InspectionRow, answer: RecordedAnswer, former: FeedbackRow | None, judged: Judged | None
) -> None:
    """Brings the sums from an inspection's former feedback to that which holds now, None being none."""
    said = Judged.model_validate(former.content) if former else None
    before, after = (outcomes(each, answer, row.thresholds) if each else {} for each in (said, judged))
    for defect, outcome in sorted({*before, *after}):
        key: tuple[str, Outcome] = (defect, outcome)
        old, new = before.get(key, 0), after.get(key, 0)
        identity = (defect, row.recipe or "", outcome)
        total = session.get(TotalRow, identity)
        if total is None:
            total = TotalRow(defect=defect, recipe=identity[1], outcome=outcome, given=0, standing=0, complete=0)
            session.add(total)
        total.given += max(0, new - old)
        total.standing += new - old
        total.complete += (new if judged and judged.complete else 0) - (old if said and said.complete else 0)


def _chosen(query: InspectionQuery) -> Select[InspectionRow]:
    wide = (defer(InspectionRow.answer), defer(InspectionRow.thresholds))
    chosen, number = select(InspectionRow).options(*wide), InspectionRow.id
    if query.defect is not None:
        chosen = chosen.join(FoundRow, FoundRow.inspection_id == InspectionRow.id)
        chosen = chosen.where(FoundRow.defect == query.defect)
        number = FoundRow.inspection_id  # the same; its index has the defect's inspections in order
    if query.state is not None:
        given = InspectionRow.feedback_id
        chosen = chosen.where(given.is_not(None) if query.state == "reviewed" else given.is_(None))
    for name in ("reason", "recipe", "camera_id", "board_id"):
        if (value := getattr(query, name)) is not None:
            chosen = chosen.where(getattr(InspectionRow, name) == value)
    if query.before is not None:
        chosen = chosen.where(number < int(query.before))
    return chosen.order_by(number.desc())


def _present(session: Session, name: str) -> InspectionRow:
    match = NAME.fullmatch(name)
    row = None
    if match is not None:
        wanted = select(InspectionRow).where(InspectionRow.request_id == match[1])
        wanted = wanted if match[2] is None else wanted.where(InspectionRow.id == int(match[2]))
        row = session.scalars(wanted.order_by(InspectionRow.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no inspection {name[:100]!r}; it was never recorded or is older than what is kept, "
            "GET /inspections lists what there is"
        )
    return row


def _repeated(session: Session, request_ids: Sequence[str]) -> set[str]:
    """Those of the request ids that more than one inspection has."""
    column = InspectionRow.request_id
    return set(session.scalars(select(column).where(column.in_(request_ids)).group_by(column).having(func.count() > 1)))


def _name(row: InspectionRow, repeated: Collection[str]) -> str:
    return f"{row.request_id}~{row.id}" if row.request_id in repeated else row.request_id


def _summary(row: InspectionRow, repeated: Collection[str]) -> dict[str, Any]:
    name = _name(row, repeated)
    same = ("at", "board_id", "camera_id", "recipe", "verdict", "counts", "reason")
    return {each: getattr(row, each) for each in same} | {
        "request_id": name,
        "number": row.id,
        "model": ModelVersion(name=row.model_name, version=row.model_version),
        "has_image": row.image_path is not None,
        "reviewed": row.feedback_id is not None,
    }


def _feedback(row: FeedbackRow, name: str) -> Feedback:
    content: Mapping[str, Any] = row.content
    return Feedback(id=row.id, request_id=name, at=row.at, actor=row.actor, **content)


def _conflict(given: FeedbackRequest, standing: FeedbackRow | None) -> str:
    seen = "none" if given.replaces is None else f"feedback {given.replaces}"
    stands = "none" if standing is None else f"feedback {standing.id} by {standing.actor} at {standing.at.isoformat()}"
    return (
        f"replaces: {seen} was seen, and {stands} stands now; read GET /inspections/{given.request_id}, and say again "
        "what still holds"
    )


def _row(record: Record) -> InspectionRow:
    answer, kept = record.answer, record.kept
    return InspectionRow(
        request_id=answer.request_id,
        at=record.at,
        board_id=answer.board_id,
        camera_id=answer.camera_id,
        recipe=answer.recipe,
        verdict=answer.verdict,
        model_name=answer.model.name,
        model_version=answer.model.version,
        reason=record.reason,
        image_path=kept.path if kept else None,
        image_media_type=kept.media_type if kept else None,
        image_bytes=kept.size_bytes if kept else None,
        counts=answer.counts,
        thresholds=record.thresholds,
        answer=answer.model_dump(mode="json", exclude={"annotated"}),
    )
