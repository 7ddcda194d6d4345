"""What is kept and what goes, on SQLite and PostgreSQL, over a real folder of pictures."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.database import Database
from gateway.review.images import ImageStore
from gateway.review.retention import GRACE, PRUNE_INTERVAL_S, Retention
from gateway.review.store import KeptImage, ReviewStore, Total
from gateway.settings import Settings
from tests.gateway.review.test_images import stored
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, names, record_of

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
    sound, lost = keep(store, images, "sound", 1), keep(store, images, "lost", 1)
    orphan, _ = images.put(PICTURE, NOW)
    images.delete([lost])
    retention = Retention(database, images, SETTINGS)
    just_now = retention.prune(datetime.now(UTC))
    assert (just_now.orphans, just_now.lost) == (0, 1)  # the orphan may still get its row
    assert (store.get("sound").has_image, store.get("lost").has_image) == (True, False)
    later = retention.prune(datetime.now(UTC) + GRACE + timedelta(minutes=1))
    assert (later.orphans, later.lost) == (1, 0)
    assert stored(tmp_path / "images") == [sound]
    assert orphan != sound


@pytest.mark.parametrize("held", [[], ["new"], ["foreign", "foreign", "new"]], ids=["empty", "one new", "of another"])
def test_a_store_that_lacks_most_pictures_is_taken_for_the_wrong_one(
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
