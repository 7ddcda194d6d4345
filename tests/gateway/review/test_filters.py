"""What a search by a label costs, and the step of the database that brings its index to months of inspections."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from gateway import database as database_module
from gateway import postgresql as driver
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import DatabaseError
from gateway.review.store import ReviewStore
from tests.gateway.postgresql import PostgreSQL
from tests.gateway.review.test_recount import migrate
from tests.gateway.review.test_store import names

LIMIT_S = 1
NAP = f"pg_sleep({1.5 * LIMIT_S})"
SLOWLY = (  # every index
    f"CREATE FUNCTION nap() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {NAP}; END'",
    "CREATE EVENT TRIGGER slowly ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION nap()",
)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is asked of databases meanwhile, with its parameters."""
    asked: list[tuple[str, Any]] = []

    def take(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", take)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", take)


@pytest.mark.parametrize("name", ["recipe", "camera_id", "board_id", "reason"])
def test_a_search_by_a_label_reads_no_other_inspections(name: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/gateway.db")
    CatalogStore(database).prepare()
    with statements() as asked:
        names(ReviewStore(database), **{name: "random"})
    statement, parameters = next(each for each in asked if "FROM inspections" in each[0])
    with database.connect() as connection:
        (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert f"({name}=?)" in step.detail
    database.close()


def test_the_indexes_may_take_longer_than_a_request_is_given(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(driver, "ANSWER_TIMEOUT_S", LIMIT_S)
    database = Database(postgresql_server.create())
    database.migrate()
    migrate(database, "0004")
    with database.write() as session:
        for statement in SLOWLY:
            session.execute(text(statement))
    database.migrate()
    with pytest.raises(DatabaseError), database.read() as session:  # the limits hold again
        session.execute(text(f"SELECT {NAP}"))
    database.close()
