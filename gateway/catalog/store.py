"""The catalog in the database: reads it, changes it, and keeps who changed what. Every call but one blocks.

A change takes the catalog's one revision row first, so changes come one after the other in every worker.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from gateway.catalog.defect import ID_PATTERN, Defect, DefectFields, StoredDefect, explain, faults_between
from gateway.catalog.precondition import Precondition
from gateway.catalog.seeds import SEEDS
from gateway.catalog.tables import ChangeRow, DefectRow, RevisionRow
from gateway.database import Database
from gateway.errors import ConflictError, DatabaseError, NotFoundError, ParameterError

SEEDING = "seed"  # the actor of the first twelve
CATALOG = "the catalog"  # its name in messages
REVISION = f"SELECT revision FROM {RevisionRow.__tablename__}"  # noqa: S608 - a table's name


class Change(BaseModel):
    """One entry of a defect's history."""

    version: int
    at: datetime
    actor: str
    before: dict[str, Any] | None  # the defect as it was; null: it was created
    after: dict[str, Any] | None  # the defect as it became; null: it was deleted


@dataclass(frozen=True)
class Replacement:
    """What replacing the whole catalog did: ids, and the revision that it left."""

    revision: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]


class CatalogStore:
    """The catalog of one database. Every method raises DatabaseError where that does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prepare(self) -> None:
        """Makes the tables and, the first time, the twelve defects; safe where several workers start at once."""
        self._database.migrate()
        with self._database.write() as session:
            revision = _turn(session)
            if revision.revision == 0:
                for position, defect in enumerate(SEEDS):
                    _record(session, SEEDING, None, defect)
                    session.add(_row(defect, position, 1))
                revision.revision = 1

    def revision(self) -> int:
        """Counts every change; the cheapest question that there is."""
        return self._database.scalar(select(RevisionRow.revision))

    def revision_at_once(self) -> int | None:
        """The same without waiting; None where only `revision` can say it."""
        return self._database.glance(REVISION)

    def load(self) -> tuple[int, tuple[StoredDefect, ...]]:
        """The revision and the whole catalog in order; the defects may be newer than the revision, never older."""
        with self._database.read() as session:
            return _revision(session), _load(session)

    def get(self, defect_id: str) -> StoredDefect:
        """One defect.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as session:
            return _stored(_present(session, defect_id))

    def history(self, defect_id: str) -> tuple[Change, ...]:
        """Every change of a defect, oldest first, of a deleted one as well; raises as `get` does."""
        changes = select(ChangeRow).where(ChangeRow.defect_id == defect_id).order_by(ChangeRow.version)
        with self._database.read() as session:
            rows = session.scalars(changes).all() if _can_be(defect_id) else ()
        if not rows:
            raise NotFoundError(f"there has never been a defect {defect_id!r}; GET /defects lists what there is")
        return tuple(
            Change(version=row.version, at=row.at, actor=row.actor, before=row.before, after=row.after) for row in rows
        )

    def put(self, defect: Defect, actor: str, expected: Precondition) -> tuple[StoredDefect, bool]:
        """Creates or replaces a defect; what there is now, and whether it was created.

        Raises:
            StaleError: not what was expected is there.
            ConflictError: it does not fit to the other defects.
        """
        with self._database.write() as session:
            revision = _turn(session)
            row = session.get(DefectRow, defect.id)
            expected.check(defect.id, row.version if row else None)
            return _put(session, revision, row, defect, actor), row is None

    def change(
        self, defect_id: str, change: Callable[[DefectFields], DefectFields], actor: str, expected: Precondition
    ) -> StoredDefect:
        """Replaces a defect by what `change` makes of it; raises as `get` and `put` do, and what `change` raises."""
        with self._database.write() as session:
            revision = _turn(session)
            row = _row_of(session, defect_id)
            expected.check(defect_id, row.version if row else None)
            row = _present(session, defect_id)
            changed = Defect(id=defect_id, **dict(change(_stored(row).fields)))
            return _put(session, revision, row, changed, actor)

    def delete(self, defect_id: str, actor: str, expected: Precondition) -> None:
        """Deletes a defect, its history stays; raises as `get` does, and StaleError."""
        with self._database.write() as session:
            revision = _turn(session)
            row = _row_of(session, defect_id)
            expected.check(defect_id, row.version if row else None)
            row = _present(session, defect_id)
            _record(session, actor, _stored(row), None)
            session.delete(row)
            revision.revision += 1

    def replace(
        self, defects: Sequence[Defect], actor: str, expected: Precondition, *, dry_run: bool = False
    ) -> Replacement:
        """Makes the catalog what is given, in that order, in one transaction; a defect that is the same stays as it is.

        `dry_run` only tells what would change.

        Raises:
            StaleError: the catalog has another revision than was expected.
            ParameterError: the defects do not fit together; lists every fault.
        """
        if faults := faults_between(defects):
            raise ParameterError("; ".join(f"{defect_id}: {fault}" for defect_id, fault in faults))
        with self._database.write() as session:
            revision = _turn(session)
            expected.check(CATALOG, revision.revision)
            there = {defect.id: defect for defect in _load(session)}
            ids = [defect.id for defect in defects]
            added = tuple(defect_id for defect_id in ids if defect_id not in there)
            changed = tuple(d.id for d in defects if d.id in there and _plain(there[d.id]) != _plain(d))
            deleted = tuple(defect_id for defect_id in there if defect_id not in ids)
            if dry_run:
                return Replacement(revision.revision, added, changed, deleted)
            for defect_id in deleted:
                _record(session, actor, there[defect_id], None)
            session.execute(delete(DefectRow))
            for position, defect in enumerate(defects):
                former = there.get(defect.id)
                keeps = former is not None and defect.id not in changed
                version = former.version if former and keeps else _record(session, actor, former, defect)
                session.add(_row(defect, position, version))
            if added or changed or list(there) != ids:
                revision.revision += 1
            return Replacement(revision.revision, added, changed, deleted)


def _turn(session: Session) -> RevisionRow:
    """The revision row, locked until the transaction ends."""
    return session.scalars(select(RevisionRow).with_for_update()).one()


def _revision(session: Session) -> int:
    return session.scalars(select(RevisionRow.revision)).one()


def _load(session: Session) -> tuple[StoredDefect, ...]:
    return tuple(_stored(row) for row in session.scalars(select(DefectRow).order_by(DefectRow.position, DefectRow.id)))


def _row_of(session: Session, defect_id: str) -> DefectRow | None:
    return session.get(DefectRow, defect_id) if _can_be(defect_id) else None


def _can_be(defect_id: str) -> bool:
    """Whether a defect may have that id; PostgreSQL cannot even be asked for some others."""
    return re.fullmatch(ID_PATTERN, defect_id) is not None


def _present(session: Session, defect_id: str) -> DefectRow:
    row = _row_of(session, defect_id)
    if row is None:
        raise NotFoundError(f"there is no defect {defect_id!r}; GET /defects lists what there is")
    return row


def _put(session: Session, revision: RevisionRow, row: DefectRow | None, defect: Defect, actor: str) -> StoredDefect:
    former = _plain(_stored(row)) if row else None
    if row and former == defect:
        return _stored(row)  # nothing changes, so there is nothing to record
    others = [other for other in _load(session) if other.id != defect.id]
    if faults := faults_between([*others, defect]):
        raise ConflictError("; ".join(fault for _, fault in faults))
    version = _record(session, actor, former, defect)
    last = session.scalars(select(func.max(DefectRow.position))).one()
    position = row.position if row else (0 if last is None else last + 1)
    stored = session.merge(_row(defect, position, version))
    revision.revision += 1
    return _stored(stored)


def _record(session: Session, actor: str, before: Defect | None, after: Defect | None) -> int:
    """Writes the change down and returns the version that it makes; numbers go on after a deletion."""
    (defect_id,) = {defect.id for defect in (before, after) if defect}
    last = session.scalars(select(func.max(ChangeRow.version)).where(ChangeRow.defect_id == defect_id)).one()
    version = (last or 0) + 1
    session.add(
        ChangeRow(
            defect_id=defect_id,
            version=version,
            at=datetime.now(UTC),
            actor=actor,
            before=_plain(before).model_dump(mode="json") if before else None,
            after=_plain(after).model_dump(mode="json") if after else None,
        )
    )
    return version


def _plain(defect: Defect) -> Defect:
    return Defect(**{name: getattr(defect, name) for name in Defect.model_fields})


def _row(defect: Defect, position: int, version: int) -> DefectRow:
    content = {name: value for name, value in defect.model_dump(mode="json").items() if name in Defect.model_fields}
    return DefectRow(**content, position=position, version=version)


def _stored(row: DefectRow) -> StoredDefect:
    try:
        return StoredDefect(**{name: getattr(row, name) for name in StoredDefect.model_fields})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, where))}: {fault}" for where, fault in explain(error))
        raise DatabaseError(f"the row {row.id!r} of the table defects is not valid: {faults}") from error
