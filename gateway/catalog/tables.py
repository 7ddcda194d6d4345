"""The catalog's tables: the defects as they are, every change that was made to them, and one number for all."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base, UtcDateTime


class DefectRow(Base):
    """A defect as it is now."""

    __tablename__ = "defects"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]  # order in lists and files
    version: Mapped[int]
    names: Mapped[dict[str, list[str]]] = mapped_column(JSON)  # by language, as descriptions
    descriptions: Mapped[dict[str, list[str]]] = mapped_column(JSON)
    score_threshold: Mapped[float | None] = mapped_column(Double)
    minimum_size_px: Mapped[int]
    severity: Mapped[str] = mapped_column(String(8))
    colour: Mapped[str] = mapped_column(String(7))
    enabled: Mapped[bool]


class ChangeRow(Base):
    """One change of one defect; stays when the defect is deleted."""

    __tablename__ = "defect_changes"

    defect_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # that the change made
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(100))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # None: it was not there
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # None: it was deleted


class RevisionRow(Base):
    """The one row that every change of the catalog counts up: a worker reads it to know that something changed."""

    __tablename__ = "catalog_revision"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    revision: Mapped[int]  # 0: the catalog has not been seeded yet
