"""Writes reviewed inspections into a folder that training reads: images/ and annotations.json.

The folder is written beside its place and renamed there: it is complete or absent. What went out is marked, so that it
need not be kept for its own sake any more.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from sqlalchemy import select, update

from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError
from gateway.review.coco import CocoFile, confirmed
from gateway.review.feedback import Judged
from gateway.review.images import ImageStore
from gateway.review.recorded import RecordedAnswer
from gateway.review.store import take_turn
from gateway.review.tables import FeedbackRow, InspectionRow

ANNOTATIONS, IMAGES = "annotations.json", "images"
ROWS = 200  # read at a time


@dataclass
class Exported:
    """How many pictures went out, and why others did not."""

    pictures: int = 0
    boxes: int = 0
    without_image: int = 0
    unfinished: int = 0  # a detection was not judged, or nothing was confirmed and the picture not looked at whole
    mistakable: int = 0  # a defect was deleted since, and its id is another one's name by now

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures, {self.boxes} boxes; left out: {self.without_image} whose picture is not kept, "
            f"{self.unfinished} not judged to the end, {self.mistakable} with a deleted defect whose id is "
            "another's name now"
        )


def export(
    database: Database, images: ImageStore, out: Path, since: datetime | None = None, recipe: str | None = None
) -> Exported:
    """Exports what was reviewed at `since` or later, of one recipe or of all.

    Raises:
        ConflictError: the folder is there already.
        NotFoundError: there is nothing to export.
        DatabaseError, ImageStoreError, OSError: there is no folder; or there is, and only the marks are missing.
    """
    if out.exists():
        raise ConflictError(f"{out} is there already; name a folder that is not")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an export that broke off
    (partial / IMAGES).mkdir(parents=True)
    exported, went_out = Exported(), []
    file = CocoFile(CatalogStore(database).load()[1])
    for row, judged in _reviewed(database, since, recipe):
        answer = RecordedAnswer.model_validate(row.answer)
        defects = confirmed(answer, judged, row.thresholds)
        if defects is None:
            exported.unfinished += 1
            continue
        if not file.can_tell_apart(defects):
            exported.mistakable += 1
            continue
        data = _picture(images, row.image_path)
        if data is None:
            exported.without_image += 1
            continue
        file_name = f"{IMAGES}/{row.id}{PurePosixPath(row.image_path or '').suffix}"
        (partial / file_name).write_bytes(data)
        file.add(file_name, answer, row.board_id, defects)
        exported.pictures += 1
        exported.boxes += len(defects)
        went_out.append((row.id, row.feedback_id))
    if not exported.pictures:
        shutil.rmtree(partial)
        raise NotFoundError(f"there is nothing to export: {exported}")
    content = json.dumps(file.tree(), ensure_ascii=False)
    (partial / ANNOTATIONS).write_text(content + "\n", encoding="utf-8")
    partial.rename(out)
    _mark(database, went_out)
    return exported


def _reviewed(database: Database, since: datetime | None, recipe: str | None) -> Iterator[tuple[InspectionRow, Judged]]:
    """Reviewed inspections, the oldest first, with the feedback that holds."""
    wanted = select(InspectionRow, FeedbackRow).join(FeedbackRow, FeedbackRow.id == InspectionRow.feedback_id)
    if since is not None:
        wanted = wanted.where(FeedbackRow.at >= since)
    if recipe is not None:
        wanted = wanted.where(InspectionRow.recipe == recipe)
    last = 0
    while True:
        with database.read() as session:
            some = wanted.where(InspectionRow.id > last).order_by(InspectionRow.id).limit(ROWS)
            rows = [(row, Judged.model_validate(given.content)) for row, given in session.execute(some)]
        yield from rows
        if len(rows) < ROWS:
            return
        last = rows[-1][0].id


def _picture(images: ImageStore, path: str | None) -> bytes | None:
    try:
        return None if path is None else images.get(path)
    except NotFoundError:
        return None


def _mark(database: Database, went_out: list[tuple[int, int | None]]) -> None:
    """Takes note of what went out, unless other feedback has come since."""
    now = datetime.now(UTC)
    with database.write() as session:
        take_turn(session)
        for inspection_id, feedback_id in went_out:
            same = (InspectionRow.id == inspection_id, InspectionRow.feedback_id == feedback_id)
            session.execute(update(InspectionRow).where(*same).values(exported_at=now))
