"""The step of the database that counts the sums of reviews by the thresholds of the line, on SQLite and PostgreSQL."""

from dataclasses import replace

import pytest
from alembic import command

from gateway.database import Database, migration_config
from gateway.review.store import ReviewStore
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, record_of, sums_of

AS_SAID = {
    ("short", "right"): (1, 1, 1),
    ("short", "false"): (2, 2, 1),
    ("spur", "right"): (0, 2, 1),
    ("spur", "false"): (0, 1, 1),
    ("other", "false"): (1, 1, 0),
    ("spur", "missed"): (2, 0, 0),
    ("scratch", "missed"): (1, 1, 1),
}
BY_THRESHOLDS = {
    ("short", "right"): (1, 1, 1),
    ("short", "false"): (2, 2, 1),
    ("spur", "right"): (0, 0, 0),
    ("spur", "false"): (0, 0, 0),
    ("other", "false"): (1, 1, 0),
    ("spur", "missed"): (2, 2, 1),
    ("scratch", "missed"): (1, 1, 1),
}


def migrate(database: Database, revision: str) -> None:
    with database.write() as session:
        config = migration_config(session.connection())
        command.downgrade(config, revision) if revision != "head" else command.upgrade(config, revision)


@pytest.fixture
def reviewed(store: ReviewStore) -> ReviewStore:
    """Two reviews, one of them whole, with spurs below the threshold; one that was corrected, and an open one."""
    answer = answer_of("a", "short", "short", "spur", "spur", recipe="A7")
    partial = answer_of("b", "short", "spur", None, recipe="A7")
    store.add(
        [replace(record_of(answer), thresholds=[0.5, 0.6]), replace(record_of(partial), thresholds=[0.5, 0.6, 0.5])]
    )
    store.add([record_of(answer_of("open", "short"))])
    store.give_feedback(feedback_of("a", "right", "false", "right", "false", missed=1), "me", DEFECTS)
    store.give_feedback(feedback_of("b", "false", "false", complete=True), "me", DEFECTS)
    store.give_feedback(feedback_of("b", "false", "right", "false", complete=False), "me", DEFECTS)
    return store


def test_sums_are_counted_by_the_thresholds_and_counters_stay(reviewed: ReviewStore, database: Database) -> None:
    standing = {key: sums for key, sums in BY_THRESHOLDS.items() if any(sums)}
    assert sums_of(reviewed) == standing
    migrate(database, "0003")
    assert sums_of(reviewed) == AS_SAID
    migrate(database, "head")
    assert sums_of(reviewed) == BY_THRESHOLDS
    assert {total.recipe for total in reviewed.totals()} == {"A7"}


def test_what_was_said_before_the_step_is_taken_out_whole(reviewed: ReviewStore, database: Database) -> None:
    migrate(database, "0003")
    migrate(database, "head")
    for name in "ab":
        reviewed.give_feedback(feedback_of(name, complete=False), "me", DEFECTS)
    assert {total[1:] for total in sums_of(reviewed).values()} == {(0, 0)}


def test_more_reviews_than_are_read_at_a_time_are_counted(store: ReviewStore, database: Database) -> None:
    store.add([record_of(answer_of(str(number), "short")) for number in range(1003)])
    with database.write() as session:
        connection = session.connection()
        connection.exec_driver_sql(
            "INSERT INTO feedback (inspection_id, at, actor, content) SELECT id, at, 'me', '"
            '{"detections": [], "missed": [{"defect": "spur"}], "complete": true, "comment": null}'
            "' FROM inspections"
        )
        connection.exec_driver_sql(
            "UPDATE inspections SET feedback_id = (SELECT f.id FROM feedback f WHERE f.inspection_id = inspections.id)"
        )
    migrate(database, "0003")
    assert sums_of(store) == {("spur", "missed"): (0, 1003, 1003)}
