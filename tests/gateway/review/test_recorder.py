"""Answers get into the database a moment later, and no detection waits or fails for it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.metrics import Metrics
from gateway.review import recorder as recorder_module
from gateway.review.images import ImageStore
from gateway.review.inspection import InspectionQuery
from gateway.review.recorder import Recorder
from gateway.review.retention import GRACE, Retention
from gateway.review.store import Record, ReviewStore
from gateway.settings import Settings
from tests.conftest import BOARD, ROOT
from tests.gateway.postgresql import PostgreSQL
from tests.gateway.review.test_images import stored
from tests.gateway.review.test_store import answer_of, names

PICTURE = BOARD.read_bytes()
SETTINGS = Settings(review_margin=0.05, review_random_share=0.0)
# A gateway that is killed between file and row: the row would be written, but SIGKILL comes first.
KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from gateway.database import Database
from gateway.metrics import Metrics
from gateway.review.images import ImageStore
from gateway.review.recorder import Recorder
from gateway.review.store import Record, ReviewStore
from gateway.settings import Settings
from tests.gateway.review.test_store import answer_of
class Killed(ReviewStore):
    def add(self, records):
        os.kill(os.getpid(), signal.SIGKILL)
recorder = Recorder(Killed(Database(sys.argv[1])), ImageStore(sys.argv[2]), Settings(), Metrics())
recorder._write([Record(answer_of("a", "short"), datetime.now(UTC), [0.5], "random", b"BM")])
"""


class HeldStore(ReviewStore):
    """Writes nothing before it may, as a database that hangs."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.may_write = threading.Event()

    def add(self, records: Sequence[Record]) -> None:
        assert self.may_write.wait(60)
        super().add(records)


def counted(metrics: Metrics, name: str, outcome: str) -> float:
    return metrics.registry.get_sample_value(f"pcbd_{name}_total", {"outcome": outcome}) or 0.0


def record(store: ReviewStore, images: ImageStore | None, act: Callable[[Recorder], None]) -> Metrics:
    """Lets a recorder live while `act` uses it; its metrics."""
    metrics = Metrics()

    async def live() -> None:
        async with Recorder(store, images, SETTINGS, metrics) as recorder:
            act(recorder)

    asyncio.run(live())
    return metrics


def test_what_is_in_the_queue_is_written_at_the_end_in_order(store: ReviewStore, tmp_path: Path) -> None:
    images = ImageStore(f"file://{tmp_path}/images")

    def act(recorder: Recorder) -> None:
        for number in range(250):
            recorder.record(answer_of(str(number)), PICTURE, [])
        recorder.record(answer_of("near", "short"), PICTURE, [0.48])

    metrics = record(store, images, act)
    assert names(store, limit="200") == ["near", *(str(number) for number in range(249, 50, -1))]
    assert counted(metrics, "records", "written") == 251
    assert images.get(store.image_of("near").path) == PICTURE
    assert len(stored(tmp_path / "images")) == counted(metrics, "record_images", "written") == 1


def test_nothing_waits_for_a_database_that_hangs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "QUEUE_RECORDS", 10)
    store, metrics = HeldStore(database), Metrics()

    async def live() -> None:
        async with Recorder(store, None, SETTINGS, metrics) as recorder:
            recorder.record(answer_of("first"), PICTURE, [])
            await asyncio.sleep(0)  # the writer takes it, and hangs
            for number in range(15):
                recorder.record(answer_of(str(number)), PICTURE, [])
            store.may_write.set()

    asyncio.run(live())
    assert names(store) == [*(str(number) for number in range(9, -1, -1)), "first"]
    assert counted(metrics, "records", "dropped") == 5


def test_pictures_in_the_queue_are_bounded_and_records_go_without(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "QUEUE_IMAGE_BYTES", 2 * len(PICTURE))

    def act(recorder: Recorder) -> None:
        for number in range(3):
            recorder.record(answer_of(str(number), "short"), PICTURE, [0.48])

    metrics = record(store, ImageStore(f"file://{tmp_path}/images"), act)
    page = store.page(InspectionQuery())
    assert [each.has_image for each in page.inspections] == [False, True, True]
    assert counted(metrics, "record_images", "dropped") == 1


def test_a_store_of_pictures_that_fails_costs_only_the_pictures(store: ReviewStore, tmp_path: Path) -> None:
    images = ImageStore(f"file://{tmp_path}/images")
    (tmp_path / "images" / f"{datetime.now(UTC):%Y}").write_text("")  # where a folder should be
    metrics = record(store, images, lambda recorder: recorder.record(answer_of("a", "short"), PICTURE, [0.48]))
    inspection = store.get("a")
    assert (inspection.reason, inspection.has_image) == ("near_threshold", False)
    assert counted(metrics, "record_images", "dropped") == 1


def test_an_outage_drops_and_is_over_when_the_database_is_back(postgresql_server: PostgreSQL, tmp_path: Path) -> None:
    database = Database(postgresql_server.create())
    CatalogStore(database).prepare()
    store, metrics = ReviewStore(database), Metrics()
    images = ImageStore(f"file://{tmp_path}/images")

    async def live() -> None:
        async with Recorder(store, images, SETTINGS, metrics) as recorder:
            postgresql_server.stop()
            try:
                recorder.record(answer_of("lost", "short"), PICTURE, [0.48])
                await recorder._queue.join()
            finally:
                await asyncio.to_thread(postgresql_server.start)
            recorder.record(answer_of("kept"), PICTURE, [])

    asyncio.run(live())
    assert names(store) == ["kept"]
    assert (counted(metrics, "records", "dropped"), counted(metrics, "records", "written")) == (1, 1)
    assert stored(tmp_path / "images") == []  # no row, no picture
    database.close()


def test_a_kill_between_picture_and_row_is_mended_by_pruning(
    store: ReviewStore, database: Database, database_url: str, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/images"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, url], cwd=ROOT, env=dict(os.environ), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (names(store), len(stored(tmp_path / "images"))) == ([], 1)
    later = datetime.now(UTC) + GRACE + timedelta(minutes=1)
    assert Retention(database, ImageStore(url), SETTINGS).prune(later).orphans == 1
    assert stored(tmp_path / "images") == []
