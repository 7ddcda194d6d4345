"""The review loop's tables: inspections, what people said of them, and sums that outlive both."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base, UtcDateTime

Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only in a column that it calls INTEGER

REVIEWED = text("feedback_id IS NOT NULL")


class InspectionRow(Base):
    """One answered picture. The wide columns stand last: a search that needs only the others does not read them."""

    __tablename__ = "inspections"
    __table_args__ = (
        Index("ix_inspections_board", "board_id", "id"),
        Index("ix_inspections_reason", "reason", "id"),
        Index("ix_inspections_recipe", "recipe", "id"),
        Index("ix_inspections_camera", "camera_id", "id"),
        # The few that were reviewed, in order.
        Index("ix_inspections_reviewed", "id", sqlite_where=REVIEWED, postgresql_where=REVIEWED),
        {"sqlite_autoincrement": True},  # a number is never given twice: cursors and names hold it
    )

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(80), index=True)  # may repeat: clients may send their own
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    board_id: Mapped[str | None] = mapped_column(String(128))
    camera_id: Mapped[str | None] = mapped_column(String(128))
    recipe: Mapped[str | None] = mapped_column(String(128))
    verdict: Mapped[str] = mapped_column(String(8))
    model_name: Mapped[str] = mapped_column(Text)
    model_version: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(String(16))
    image_path: Mapped[str | None] = mapped_column(String(64), index=True)  # in the image store
    image_media_type: Mapped[str | None] = mapped_column(String(16))
    image_bytes: Mapped[int | None] = mapped_column(BigInteger)
    feedback_id: Mapped[int | None] = mapped_column(BigInteger)  # the feedback that holds; the last given
    exported_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when that feedback went out for training
    counts: Mapped[dict[str, int]] = mapped_column(JSON)
    thresholds: Mapped[list[float]] = mapped_column(
        JSON
    )  # usual least score of each entry of the answer's `understood`
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)


class FoundRow(Base):
    """That an inspection's answer has a defect: what a search by defect goes through."""

    __tablename__ = "inspection_defects"

    defect: Mapped[str] = mapped_column(String(64), primary_key=True)
    inspection_id: Mapped[int] = mapped_column(
        Number, ForeignKey("inspections.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class FeedbackRow(Base):
    """What somebody said of an inspection; what was said before stays."""

    __tablename__ = "feedback"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    inspection_id: Mapped[int] = mapped_column(Number, ForeignKey("inspections.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(100))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class TotalRow(Base):
    """How often people said something of a defect in a recipe; stays when inspections go."""

    __tablename__ = "review_totals"

    defect: Mapped[str] = mapped_column(String(64), primary_key=True)
    recipe: Mapped[str] = mapped_column(String(128), primary_key=True)  # '' for none
    outcome: Mapped[str] = mapped_column(String(8), primary_key=True)  # right, false or missed: feedback.outcomes
    given: Mapped[int]  # ever; a correction takes nothing back, for counters must not fall
    standing: Mapped[int]  # by the feedback that holds now, of inspections that are kept
    complete: Mapped[int]  # of these, where the whole picture was looked at


class ReviewStateRow(Base):
    """The one row that whoever gives feedback or prunes takes first, so that they come one after the other."""

    __tablename__ = "review_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    prune_due_at: Mapped[datetime] = mapped_column(UtcDateTime)  # the worker that moves it on does the pruning
