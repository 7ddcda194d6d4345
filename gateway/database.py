"""The gateway's database: SQLite in a file, or PostgreSQL. Opens it, brings its tables up to date, hands out sessions.

Knows no table: a room declares its own on `Base`, and gateway/migrations/ holds how they came about. Every call but
`glance` blocks: keep it off the event loop.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, DateTime, Dialect, Engine, Select, create_engine, event, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from gateway.errors import DatabaseError

MIGRATIONS = "gateway:migrations"
MIGRATION_LOCK = 0x70636264  # of PostgreSQL's advisory locks: one worker migrates, the others wait for it
CONNECT_TIMEOUT_S = 3
POOL_RECYCLE_S = 300
PASSWORDS = ("password", "sslpassword")  # that a URL's options may hold
STATEMENT_TIMEOUT_S = 5  # also how long a writer to SQLite waits for another

Value = TypeVar("Value")


class Base(DeclarativeBase):
    """Base of every table."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite itself forgets the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What is stored."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What is read."""
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


class Database:
    """One database, named by its URL: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Raises:
        DatabaseError: the URL means none.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = _parse(url)
            self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
            self._engine = _postgresql(parsed) if self._file is None else _sqlite(parsed)
        except (SQLAlchemyError, TypeError, ValueError):
            raise DatabaseError(
                "PCBD_DATABASE_URL (or --database-url) is no URL of a database, expected sqlite:///FILE or "
                "postgresql://USER:PASSWORD@HOST:PORT/NAME; write @ : / in a password as %40 %3A %2F"
            ) from None  # the cause may hold a part of the password
        self.name = parsed.difference_update_query(PASSWORDS).render_as_string(hide_password=True)
        self._writing: Engine = self._engine.execution_options(pcbd_writes=True)
        # One statement needs no transaction, which would take PostgreSQL two messages more.
        alone = {} if self._file is not None else {"isolation_level": "AUTOCOMMIT"}
        self._asking: Engine = self._engine.execution_options(**alone)
        self._glancing: sqlite3.Connection | None = None

    def migrate(self) -> None:
        """Creates the tables or brings them up to date; safe where several workers start at once.

        Raises:
            DatabaseError: it cannot be reached or written, or comes from a newer gateway.
        """
        with self._translated():
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._writing.begin() as connection:
                if self._file is None:
                    connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                command.upgrade(migration_config(connection), "head")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; raises DatabaseError where the database does not answer."""
        with self._translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A bare connection, undone at the end; raises as `read` does."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    def scalar(self, question: Select[Value]) -> Value:
        """One value, asked for without a session, which would cost more than the question; raises as `read` does."""
        with self._translated(), self._asking.connect() as connection:
            return connection.scalars(question).one()

    def glance(self, question: str) -> int | None:
        """One number from SQLite's file at once, for one who must not wait; None wherever that cannot be.

        The one call for the event loop: the connection is held and waits for nobody, so that the answer comes from the
        system's cache in less time than handing the question to a thread takes. PostgreSQL has to be waited for.
        """
        if self._file is None:
            return None
        try:
            if self._glancing is None:
                name = f"{self._file.absolute().as_uri()}?mode=rw"
                self._glancing = sqlite3.connect(name, uri=True, timeout=0, check_same_thread=False)
            row = self._glancing.execute(question).fetchone()
        except sqlite3.Error:
            self._end_glancing()
            return None
        return row and int(row[0])

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction, committed at the end and undone by any error; raises as `read` does."""
        with self._translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Ends every connection."""
        self._end_glancing()
        self._engine.dispose()

    def _end_glancing(self) -> None:
        if self._glancing is not None:
            self._glancing.close()
            self._glancing = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, CommandError, OSError) as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise DatabaseError(
                f"the database {self.name} cannot be used: {cause}; see PCBD_DATABASE_URL, and that it runs and may "
                "be written"
            ) from error


def migration_config(connection: Connection) -> Config:
    """What Alembic's commands need to work on that connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", MIGRATIONS)
    return config


def _parse(url: str) -> URL:
    parsed = make_url(url)
    if "@" in (parsed.host or ""):
        raise ValueError("the host begins with what is the password's")
    if parsed.get_backend_name() == "sqlite" and not parsed.database:
        raise ValueError("no file")
    return parsed


def _postgresql(url: URL) -> Engine:
    from gateway.postgresql import connect  # its driver takes 9 MB, which SQLite does not need

    milliseconds = STATEMENT_TIMEOUT_S * 1000
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_recycle=POOL_RECYCLE_S,  # firewalls drop idle connections without a word
        pool_timeout=STATEMENT_TIMEOUT_S,
        json_serializer=_json,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        },
    )
    event.listen(engine, "do_connect", connect)
    return engine


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, json_serializer=_json, connect_args={"timeout": STATEMENT_TIMEOUT_S})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # Chinese stays readable to whoever looks into the table


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3's, as SQLAlchemy hands it on
    connection.isolation_level = None  # transactions begin below: sqlite3 itself would begin none before a DDL
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its turn before it reads: one that became a writer later could only fail.
    writes = connection.get_execution_options().get("pcbd_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
