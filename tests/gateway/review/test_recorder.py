"""Answers get into the database a moment later, and no detection waits or fails for it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text

from gateway import database as database_module
from gateway import postgresql as driver
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.review import images as images_module
from gateway.review import recorder as recorder_module
from gateway.review.images import ImageStore
from gateway.review.inspection import InspectionQuery
from gateway.review.recorder import Recorder
from gateway.review.retention import GRACE, Retention
from gateway.review.store import ReviewStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.chaos.proxy import Proxy
from tests.conftest import BOARD, ROOT
from tests.gateway.postgresql import PostgreSQL
from tests.gateway.review.test_images import stored
from tests.gateway.review.test_store import answer_of, names
from tests.gateway.test_failures import wait_until

PICTURE = BOARD.read_bytes()
SETTINGS = Settings(review_margin=0.05, review_random_share=0.0)
# A gateway that is killed between file and row: the row would be written, but SIGKILL comes first.
KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from gateway.database import Database
from gateway.telemetry.metrics import Metrics
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


class CountedStore(ImageStore):
    """Counts what is to be kept, and keeps it once `may_go_on` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.puts = 0
        self.begun, self.may_go_on = Event(), Event()

    def put(self, data: bytes, at: datetime) -> tuple[str, str]:
        self.puts += 1
        self.begun.set()
        self.may_go_on.wait()
        return super().put(data, at)


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


def test_nothing_waits_for_a_database_that_hangs(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT_S", 60)
    monkeypatch.setattr(driver, "ANSWER_TIMEOUT_S", 60.0)
    monkeypatch.setattr(recorder_module, "QUEUE_RECORDS", 10)
    database = Database(postgresql_server.create())
    CatalogStore(database).prepare()
    store, metrics = ReviewStore(database), Metrics()

    def is_waited_for() -> bool:
        with database.read() as session:
            return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) == 1

    async def live() -> None:
        async with Recorder(store, None, SETTINGS, metrics) as recorder:
            with database.write() as held:
                held.execute(text("LOCK TABLE inspections IN ACCESS EXCLUSIVE MODE"))
                recorder.record(answer_of("first"), PICTURE, [])
                await asyncio.to_thread(wait_until, is_waited_for)
                for number in range(15):
                    recorder.record(answer_of(str(number)), PICTURE, [])
                assert counted(metrics, "records", "dropped") == 5
                assert is_waited_for()

    asyncio.run(live())
    assert names(store) == [*(str(number) for number in range(9, -1, -1)), "first"]
    assert counted(metrics, "records", "dropped") == 5
    database.close()


def test_what_a_database_that_stopped_answering_did_not_take_is_counted_at_the_end(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ANSWER_TIMEOUT_S", 60.0)
    monkeypatch.setattr(recorder_module, "CLOSE_TIMEOUT_S", 0.0)
    url = postgresql_server.create()
    metrics = Metrics()
    with Proxy(f"127.0.0.1:{postgresql_server.port}") as proxy:
        database = Database(url.replace(str(postgresql_server.port), proxy.url.rpartition(":")[2]))
        CatalogStore(database).prepare()
        recorder = Recorder(ReviewStore(database), None, SETTINGS, metrics)

        async def live() -> None:
            async with recorder:
                proxy.fail("stall")
                recorder.record(answer_of("at work"), PICTURE, [])
                await asyncio.to_thread(wait_until, recorder._queue.empty)
                recorder.record(answer_of("in the queue"), PICTURE, [])

        asyncio.run(live())
    recorder._thread.shutdown()  # its connection is gone with the proxy
    assert counted(metrics, "records", "dropped") == 2
    database.close()


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


def test_a_store_of_pictures_that_hangs_costs_one_wait_and_no_answer(
    store: ReviewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "TIMEOUT", timedelta(seconds=0.5))
    monkeypatch.setattr(recorder_module, "QUEUE_IMAGE_BYTES", 1000 * len(PICTURE))
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:  # it takes connections and says nothing
        variables = {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in {**variables, "ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        images = CountedStore("s3://boards/line-4")
        images.may_go_on.set()

        def act(recorder: Recorder) -> None:
            for number in range(250):
                recorder.record(answer_of(str(number), "short"), PICTURE, [0.48])

        metrics = record(store, images, act)
    assert (counted(metrics, "records", "written"), counted(metrics, "records", "dropped")) == (250, 0)
    assert (images.puts, counted(metrics, "record_images", "dropped")) == (1, 250)


def test_a_store_of_pictures_is_tried_again_after_the_pause(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "IMAGES_PAUSE_S", 0.0)
    day = tmp_path / "images" / f"{datetime.now(UTC):%Y}"
    images = ImageStore(f"file://{tmp_path}/images")
    day.write_text("")  # where a folder should be
    metrics = Metrics()

    async def live() -> None:
        async with Recorder(store, images, SETTINGS, metrics) as recorder:
            recorder.record(answer_of("lost", "short"), PICTURE, [0.48])
            await recorder._queue.join()
            day.unlink()
            recorder.record(answer_of("kept", "short"), PICTURE, [0.48])

    asyncio.run(live())
    assert [each.has_image for each in store.page(InspectionQuery()).inspections] == [True, False]
    assert counted(metrics, "record_images", "dropped") == counted(metrics, "record_images", "written") == 1


def test_rows_do_not_wait_for_pictures_beyond_their_time(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "BATCH_IMAGES_S", -1.0)  # which is over

    def act(recorder: Recorder) -> None:
        for number in range(3):
            recorder.record(answer_of(str(number), "short"), PICTURE, [0.48])

    metrics = record(store, ImageStore(f"file://{tmp_path}/images"), act)
    assert [each.has_image for each in store.page(InspectionQuery()).inspections] == [False] * 3
    assert counted(metrics, "record_images", "dropped") == 3


def test_a_full_queue_is_laid_to_what_is_waited_for(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(recorder_module.LOG, "warning", lambda text, *values: lines.append(text % values))
    monkeypatch.setattr(recorder_module, "QUEUE_RECORDS", 1)
    images, metrics = CountedStore(f"file://{tmp_path}/images"), Metrics()

    async def live() -> None:
        async with Recorder(store, images, SETTINGS, metrics) as recorder:
            recorder.record(answer_of("at work", "short"), PICTURE, [0.48])
            await asyncio.to_thread(images.begun.wait)
            for name in ("in the queue", "too many"):
                recorder.record(answer_of(name), PICTURE, [])
            images.may_go_on.set()

    asyncio.run(live())
    assert names(store) == ["in the queue", "at work"]
    assert lines == ["answers are not recorded, detection goes on: the image store is slower than the line"]


def test_the_end_of_the_gateway_waits_for_one_picture_and_writes_all_rows(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "CLOSE_IMAGES_S", 0.0)
    images, metrics = CountedStore(f"file://{tmp_path}/images"), Metrics()
    recorder = Recorder(store, images, SETTINGS, metrics)

    def release() -> None:
        wait_until(lambda: recorder._stopping)
        images.may_go_on.set()

    async def live() -> None:
        async with recorder:
            for number in range(3):
                recorder.record(answer_of(str(number), "short"), PICTURE, [0.48])
            await asyncio.to_thread(images.begun.wait)
            released = asyncio.create_task(asyncio.to_thread(release))
        await released

    asyncio.run(live())
    assert [each.has_image for each in store.page(InspectionQuery()).inspections] == [False, False, True]
    assert (images.puts, counted(metrics, "records", "dropped")) == (1, 0)


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
    record(store, ImageStore(url), lambda recorder: recorder.record(answer_of("before", "short"), PICTURE, [0.48]))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, url], cwd=ROOT, env=dict(os.environ), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (names(store), len(stored(tmp_path / "images"))) == (["before"], 2)
    later = datetime.now(UTC) + GRACE + timedelta(minutes=1)
    assert Retention(database, ImageStore(url), SETTINGS).prune(later).orphans == 1
    assert len(stored(tmp_path / "images")) == 1
