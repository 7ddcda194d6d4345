"""What is kept and what goes, on SQLite and PostgreSQL, over a real folder of pictures."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from gateway.database import Database
from gateway.review import retention as retention_module
from gateway.review.images import ImageStore
from gateway.review.retention import GRACE, PRUNE_INTERVAL_S, Retention
from gateway.review.store import KeptImage, ReviewStore, Total
from gateway.settings import Settings
from tests.gateway.review.test_images import stored
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, names, record_of
from tests.gateway.test_failures import PATIENCE_S

NOW = datetime.now(UTC)
SETTINGS = Settings(image_store_budget_bytes=10**9, record_retention_days=90, reviewed_retention_days=365)
PICTURE = b"BM" + bytes(98)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(f"file://{tmp_path}/images")


def keep(store: ReviewStore, images: ImageStore, request_id: str, age_days: float) -> str:
    """An inspection of that age with its picture; the picture's path."""
    at = NOW - timedelta(days=age_days)
    path, media_type = images.put(PICTURE, at)
    answer = answer_of(request_id, "short")
    store.add([record_of(answer, at=at, reason="random", kept=KeptImage(path, media_type, len(PICTURE)))])
    return path


def mark_exported(database: Database, request_id: str) -> None:
    with database.write() as session:
        connection = session.connection()
        connection.exec_driver_sql(f"UPDATE inspections SET exported_at = at WHERE request_id = '{request_id}'")  # noqa: S608


def test_age_takes_what_nobody_reviewed_sooner(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    ages = {"new": 89, "old": 91, "reviewed": 364, "reviewed_old": 366, "exported": 91, "exported_new": 89}
    paths = {name: keep(store, images, name, age) for name, age in ages.items()}
    for name in ("reviewed", "reviewed_old", "exported", "exported_new"):
        store.give_feedback(feedback_of(name, "right"), "me", DEFECTS)
    for name in ("exported", "exported_new"):
        mark_exported(database, name)
    pruned = Retention(database, images, SETTINGS).prune(NOW)
    kept = {"new", "reviewed", "exported_new"}
    assert (set(names(store)), pruned.inspections) == (kept, 3)
    assert stored(tmp_path / "images") == sorted(paths[name] for name in kept)
    assert store.totals() == [Total("short", "", "right", given=4, standing=2, complete=2)]
    with database.connect() as connection:
        for table in ("feedback", "inspection_defects"):
            left = connection.exec_driver_sql(f"SELECT DISTINCT inspection_id FROM {table}").scalars().all()  # noqa: S608
            assert len(left) == {"feedback": 2, "inspection_defects": 3}[table]


def test_the_budget_takes_the_oldest_unreviewed_pictures_and_leaves_their_records(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    paths = {name: keep(store, images, name, 5 - number) for number, name in enumerate("abcd")}
    store.give_feedback(feedback_of("a", "right"), "me", DEFECTS)
    settings = SETTINGS.model_copy(update={"image_store_budget_bytes": 250})
    pruned = Retention(database, images, settings).prune(NOW)
    assert (pruned.images, pruned.inspections) == (2, 0)
    assert stored(tmp_path / "images") == sorted([paths["a"], paths["d"]])
    assert [store.get(name).has_image for name in "abcd"] == [True, False, False, True]
    pruned = Retention(database, images, SETTINGS.model_copy(update={"image_store_budget_bytes": 0})).prune(NOW)
    assert (pruned.images, pruned.over_budget_bytes) == (1, 100)
    assert stored(tmp_path / "images") == [paths["a"]]


def test_pruning_mends_what_a_crash_left_between_file_and_row(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    lost, *sound = [keep(store, images, name, 1) for name in ("lost", *map(str, range(10)))]
    orphan, _ = images.put(PICTURE, NOW)
    images.delete([lost])
    retention = Retention(database, images, SETTINGS)
    just_now = retention.prune(datetime.now(UTC))
    assert (just_now.orphans, just_now.lost) == (0, 1)  # the orphan may still get its row
    assert (store.get("0").has_image, store.get("lost").has_image) == (True, False)
    later = retention.prune(datetime.now(UTC) + GRACE + timedelta(minutes=1))
    assert (later.orphans, later.lost) == (1, 0)
    assert stored(tmp_path / "images") == sorted(sound)
    assert orphan not in sound


@pytest.mark.parametrize(
    "held",
    [[], ["new"], ["foreign", "foreign", "new"], ["new"] * 10],
    ids=["empty", "one new", "of another", "of a host whose pictures are more"],
)
def test_a_store_that_lacks_more_than_a_few_pictures_is_taken_for_the_wrong_one(
    held: list[str], store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    keep(store, images, "a", 1)
    keep(store, images, "b", 1)
    unmounted = ImageStore(f"file://{tmp_path}/another")
    for name in held:
        if name == "new":
            keep(store, unmounted, "new", 0)
        else:
            unmounted.put(PICTURE, NOW)
    before = stored(tmp_path / "another")
    pruned = Retention(database, unmounted, SETTINGS).prune(NOW + GRACE + timedelta(minutes=1))
    assert (pruned.lost, pruned.orphans) == (0, 0)
    assert stored(tmp_path / "another") == before
    assert store.get("a").has_image
    assert store.get("b").has_image


def test_a_database_that_knows_few_of_the_pictures_takes_only_those_that_are_too_old_anyway(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    known = keep(store, images, "new", 0)
    others = [images.put(PICTURE, NOW)[0] for _ in range(2)]
    ancient, _ = images.put(PICTURE, NOW)
    os.utime(tmp_path / "images" / ancient, times=((NOW - timedelta(days=366)).timestamp(),) * 2)
    pruned = Retention(database, images, SETTINGS).prune(NOW + GRACE + timedelta(minutes=1))
    assert (pruned.lost, pruned.orphans) == (0, 1)
    assert stored(tmp_path / "images") == sorted([known, *others])


def test_one_of_several_workers_prunes(store: ReviewStore, database: Database) -> None:
    retention = Retention(database, None, SETTINGS)
    for now in (NOW, NOW + timedelta(seconds=PRUNE_INTERVAL_S)):
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(retention.is_due, [now] * 4)) == 1


def test_two_prunings_at_a_time_count_once(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    for number in range(20):
        keep(store, images, str(number), 400)
        store.give_feedback(feedback_of(str(number), "right"), "me", DEFECTS)
    with ThreadPoolExecutor(2) as pool:
        pruned = list(pool.map(Retention(database, images, SETTINGS).prune, [NOW] * 2))
    assert sum(each.inspections for each in pruned) == 20
    assert (names(store), stored(tmp_path / "images")) == ([], [])
    assert store.totals() == [Total("short", "", "right", 20, 0, 0)]


class HaltingStore(ImageStore):
    """One that has deleted a picture and does not return yet."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.halted, self.released = Event(), Event()

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            super().delete([path])
            self.halted.set()
            assert self.released.wait(PATIENCE_S)


@pytest.mark.parametrize("reason", ["age", "budget"])
def test_a_pruning_at_work_ends_soon_when_the_gateway_does(
    reason: str, store: ReviewStore, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "ROWS", 2)
    images = HaltingStore(f"file://{tmp_path}/images")
    paths = [keep(store, images, str(number), 400 if reason == "age" else 1) for number in range(6)]
    settings = SETTINGS.model_copy(update={"image_store_budget_bytes": 0})

    async def stop_while_pruning() -> None:
        async with Retention(database, images, settings) as retention:
            pruning = asyncio.get_running_loop().run_in_executor(None, retention.prune, NOW)
            assert await asyncio.to_thread(images.halted.wait, PATIENCE_S)
        images.released.set()
        await asyncio.wait_for(pruning, PATIENCE_S)

    asyncio.run(stop_while_pruning())
    assert stored(tmp_path / "images") == sorted(paths[1:])
    assert sum(store.get(name).has_image for name in names(store)) == 4
