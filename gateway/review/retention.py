"""Prunes what was recorded: by age, by the budget of pictures, and what a crash left half done.

Rows go before their pictures, so a crash in between leaves a picture without a row, which the next pruning deletes;
a row whose picture has vanished is told and loses its pointer. The gateway prunes every PRUNE_INTERVAL_S, whichever
worker comes first; `python -m gateway.review prune` does at once.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from gateway.background import end
from gateway.database import Database
from gateway.errors import ServiceError
from gateway.review.images import ImageStore
from gateway.review.recorded import RecordedAnswer
from gateway.review.store import count, take_turn
from gateway.review.tables import FeedbackRow, InspectionRow
from gateway.settings import Settings

LOG = logging.getLogger("gateway.review")
PRUNE_INTERVAL_S = 600.0
LOOK_INTERVAL_S = 60.0  # between looks whether pruning is due
GRACE = timedelta(hours=1)  # younger pictures may still get their row
ROWS = 500  # deleted in one transaction
KEPT_PER_LOST = 10  # rows that have their picture for each that has lost it, at least: a crash loses few


@dataclass
class Pruned:
    """What pruning did."""

    inspections: int = 0  # gone by age, with their pictures
    images: int = 0  # gone to keep the budget
    orphans: int = 0  # pictures without a row, deleted
    lost: int = 0  # rows whose picture had vanished
    over_budget_bytes: int = 0  # of pictures that were reviewed, which the budget does not touch

    def __str__(self) -> str:
        return (
            f"{self.inspections} inspections too old, {self.images} pictures beyond the budget and {self.orphans} "
            f"without an inspection deleted; {self.lost} inspections had lost their picture"
        )


class Retention:
    """Prunes; as a context now and then, in a thread of its own. After that it deletes no further picture."""

    def __init__(self, database: Database, images: ImageStore | None, settings: Settings) -> None:
        self._database = database
        self._images = images
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "retention")
        self._ending = threading.Event()  # the process waits for the thread

    def prune(self, now: datetime) -> Pruned:
        """Everything; may run twice at a time.

        Raises:
            DatabaseError, ImageStoreError: what was not done is done the next time.
        """
        pruned = Pruned()
        while self._goes_on() and (number := self._expire(now)):
            pruned.inspections += number
        self._keep_budget(pruned)
        self._mend(now, pruned)
        return pruned

    def is_due(self, now: datetime) -> bool:
        """Whether it is this worker's turn; to one of them it is True every PRUNE_INTERVAL_S."""
        with self._database.write() as session:
            state = take_turn(session)
            due = state.prune_due_at <= now
            if due:
                state.prune_due_at = now + timedelta(seconds=PRUNE_INTERVAL_S)
            return due

    def _expire(self, now: datetime) -> int:
        """Deletes some inspections that are too old, the sums of their feedback with them; how many."""
        with self._database.write() as session:
            take_turn(session)
            rows = session.scalars(select(InspectionRow).where(self._is_old(now)).limit(ROWS)).all()
            for row in rows:
                if row.feedback_id is not None:
                    given = session.get(FeedbackRow, row.feedback_id)
                    count(session, row, RecordedAnswer.model_validate(row.answer), given, None)
            paths = [row.image_path for row in rows if row.image_path]
            session.flush()
            session.execute(delete(InspectionRow).where(InspectionRow.id.in_([row.id for row in rows])))
        self._delete(paths)
        return len(rows)

    def _is_old(self, now: datetime) -> ColumnElement[bool]:
        short = now - timedelta(days=self._settings.record_retention_days)
        long = now - timedelta(days=self._settings.reviewed_retention_days)
        done = or_(InspectionRow.feedback_id.is_(None), InspectionRow.exported_at.is_not(None))
        return or_(and_(done, InspectionRow.at < short), InspectionRow.at < min(short, long))

    def _keep_budget(self, pruned: Pruned) -> None:
        """Gives up the oldest unreviewed pictures until the rest is within the budget."""
        kept = InspectionRow.image_path.is_not(None)
        while self._goes_on():
            with self._database.write() as session:
                take_turn(session)
                held = session.scalars(select(func.sum(InspectionRow.image_bytes)).where(kept)).one() or 0
                excess = int(held) - self._settings.image_store_budget_bytes
                if excess <= 0:
                    return
                unreviewed = select(InspectionRow).where(kept, InspectionRow.feedback_id.is_(None))
                paths = []
                for row in session.scalars(unreviewed.order_by(InspectionRow.id).limit(ROWS)):
                    if excess > 0 and row.image_path:
                        excess -= row.image_bytes or 0
                        paths.append(row.image_path)
                        row.image_path = row.image_bytes = None
            if not paths:
                LOG.warning("reviewed pictures are %d bytes above PCBD_IMAGE_STORE_BUDGET_BYTES", excess)
                pruned.over_budget_bytes = excess
                return
            self._delete(paths)
            pruned.images += len(paths)

    def _mend(self, now: datetime, pruned: Pruned) -> None:
        """Deletes pictures that no row has, and takes from rows the pictures that are not there.

        Where most pictures have no row, or more rows have lost theirs than KEPT_PER_LOST allows, it is the wrong store,
        one that is not mounted or another host's, or another database: that is told, and only pictures that would have
        been too old anyway go.
        """
        if self._images is None:
            return
        before = now - GRACE
        there = dict(takewhile(self._goes_on, self._images.paths()))
        if not self._goes_on():
            return  # not all are known
        with self._database.read() as session:
            has = InspectionRow.image_path.is_not(None)
            rows = dict(session.execute(select(InspectionRow.image_path, InspectionRow.at).where(has)).all())
        matched = len(there.keys() & rows.keys())
        orphans = [path for path, at in there.items() if path not in rows and at < before]
        lost = [path for path, at in rows.items() if path not in there and at < before]
        if len(orphans) > matched or len(lost) * KEPT_PER_LOST > matched:
            LOG.error(
                "of %d pictures in the image store %d have no inspection, and of %d inspections with a picture %d have "
                "none in it; are PCBD_IMAGE_STORE and PCBD_DATABASE_URL the right ones, mounted, and one store for all "
                "hosts? Nothing is mended",
                len(there),
                len(orphans),
                len(rows),
                len(lost),
            )
            longest = max(self._settings.record_retention_days, self._settings.reviewed_retention_days)
            orphans = [path for path in orphans if there[path] < now - timedelta(days=longest)]
            lost = []
        self._delete(orphans)
        pruned.orphans = len(orphans) + self._images.sweep_stages(before)
        for start in range(0, len(lost), ROWS):
            some = InspectionRow.image_path.in_(lost[start : start + ROWS])
            with self._database.write() as session:
                session.execute(update(InspectionRow).where(some).values(image_path=None, image_bytes=None))
        if lost:
            LOG.error("%d inspections had lost their picture, as %s; they are kept without", len(lost), lost[0])
        pruned.lost = len(lost)

    def _delete(self, paths: Iterable[str]) -> None:
        if self._images is not None:
            self._images.delete(takewhile(self._goes_on, paths))

    def _goes_on(self, *_: object) -> bool:
        return not self._ending.is_set()

    def _prune_if_due(self) -> None:
        now = datetime.now(UTC)
        if self.is_due(now):
            LOG.info("pruned: %s", self.prune(now))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._prune_if_due)
            except ServiceError as error:
                LOG.warning("pruning failed, it is tried again: %s", error)
            except Exception:  # the loop must outlive whatever it meets
                LOG.exception("pruning failed")

    async def __aenter__(self) -> "Retention":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        await end(self._task)
        self._thread.shutdown(wait=False, cancel_futures=True)
