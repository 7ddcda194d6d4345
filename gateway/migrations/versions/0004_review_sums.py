"""The sums of reviews counted anew: a detection below the line's threshold is no false call, and missed where right."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROWS = 500  # read at a time
INSPECTIONS = sa.table(
    "inspections",
    sa.column("id", sa.BigInteger),
    sa.column("recipe", sa.String),
    sa.column("feedback_id", sa.BigInteger),
    sa.column("thresholds", sa.JSON),
    sa.column("answer", sa.JSON),
)
FEEDBACK = sa.table("feedback", sa.column("id", sa.BigInteger), sa.column("content", sa.JSON))
KEY = ("defect", "recipe", "outcome")
TOTALS = sa.table(
    "review_totals",
    *(sa.column(name, sa.String) for name in KEY),
    *(sa.column(name, sa.Integer) for name in ("given", "standing", "complete")),
)


def upgrade() -> None:
    """Counts by the thresholds that the inspections recorded."""
    _recount(by_thresholds=True)


def downgrade() -> None:
    """Counts what was said as it was said."""
    _recount(by_thresholds=False)


def _recount(*, by_thresholds: bool) -> None:
    connection = op.get_bind()
    state = sa.table("review_state", sa.column("id", sa.Integer))
    connection.execute(sa.select(state.c.id).with_for_update()).all()  # nobody gives feedback or prunes meanwhile
    standing: Counter[tuple[str, ...]] = Counter()
    complete: Counter[tuple[str, ...]] = Counter()
    for row in _reviewed(connection):
        for defect, outcome in _outcomes(row, by_thresholds=by_thresholds):
            key = (defect, row.recipe or "", outcome)
            standing[key] += 1
            complete[key] += row.content["complete"]
    former = connection.execute(sa.select(*(TOTALS.c[name] for name in (*KEY, "given"))))
    given = {tuple(row[:-1]): row.given for row in former}
    sums = [
        dict(zip(KEY, key, strict=True))
        | {"given": given.get(key, 0), "standing": standing[key], "complete": complete[key]}
        for key in sorted({*given, *standing})
    ]
    connection.execute(sa.delete(TOTALS))
    op.bulk_insert(TOTALS, sums)


def _reviewed(connection: sa.Connection) -> Iterator[Any]:
    inspections = INSPECTIONS.c
    columns = (inspections.id, inspections.recipe, inspections.thresholds, inspections.answer, FEEDBACK.c.content)
    wanted = sa.select(*columns).join(FEEDBACK, FEEDBACK.c.id == inspections.feedback_id)
    wanted = wanted.where(inspections.feedback_id.is_not(None)).order_by(inspections.id).limit(ROWS)
    last = 0
    while rows := connection.execute(wanted.where(inspections.id > last)).all():
        yield from rows
        last = rows[-1].id


def _outcomes(row: Any, *, by_thresholds: bool) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - of columns as above
    asked = zip(row.answer["understood"], row.thresholds, strict=False)
    usual = {(entry["prompt"], entry["defect"]): threshold for entry, threshold in asked} if by_thresholds else {}
    said = {judged["id"]: judged["judgement"] for judged in row.content["detections"]}
    for found in row.answer["detections"]:
        outcome = said.get(found["id"])
        if outcome is not None and found["score"] < usual.get((found["prompt"], found["defect"]), 0.0):
            outcome = "missed" if outcome == "right" else None
        if outcome is not None:
            yield found["defect"] or "other", outcome
    yield from ((missed["defect"], "missed") for missed in row.content["missed"])
