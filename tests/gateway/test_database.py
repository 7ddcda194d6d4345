"""The database: its tables come about by migrations, on SQLite and on PostgreSQL alike."""

import ast
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, literal, select, text

import gateway.catalog.tables
import gateway.review.tables  # noqa: F401 - they declare their tables on Base
from gateway import postgresql as driver
from gateway.catalog.store import CatalogStore
from gateway.database import Base, Database, migration_config
from gateway.errors import DatabaseError
from gateway.settings import Settings
from tests.chaos.proxy import Proxy
from tests.conftest import ROOT, run_module
from tests.gateway.postgresql import PostgreSQL
from tests.gateway.test_failures import PATIENCE_S

WORKERS = 3
PREPARE = "import sys; from gateway.database import Database; from gateway.catalog.store import CatalogStore; "
PREPARE += "CatalogStore(Database(sys.argv[1])).prepare()"


@pytest.fixture
def database(database_url: str) -> Database:
    database = Database(database_url)
    database.migrate()
    return database


def test_the_migrations_make_the_tables_that_the_models_declare(database: Database) -> None:
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


def test_every_migration_can_be_taken_back_and_run_again(database: Database) -> None:
    with database.connect() as connection:
        command.downgrade(migration_config(connection), "base")
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        command.upgrade(migration_config(connection), "head")
        assert "defects" in inspect(connection).get_table_names()
    database.close()


def test_the_next_migration_is_written_from_what_the_tables_lack(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway")
    (tmp_path / "export").symlink_to(ROOT / "export")
    tables = tmp_path / "gateway" / "review" / "tables.py"
    source = tables.read_text(encoding="utf-8")
    tables.write_text(
        f'{source}\n\nclass Shift(Base):\n    """Who was there."""\n\n    __tablename__ = "shift"\n\n'
        "    name: Mapped[str] = mapped_column(primary_key=True)\n",
        encoding="utf-8",
    )
    written = subprocess.run(
        [sys.executable, "-m", "gateway.migrations", "the shifts"], cwd=tmp_path, capture_output=True, text=True
    )
    assert written.returncode == 0, written.stderr
    versions = tmp_path / "gateway" / "migrations" / "versions"
    (added,) = {path.name for path in versions.glob("[0-9]*.py")} - {
        path.name for path in (ROOT / "gateway" / "migrations" / "versions").glob("[0-9]*.py")
    }
    assert added == f"{len(list(versions.glob('[0-9]*.py'))):04d}_the_shifts.py"
    step = ast.parse((versions / added).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(step) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    changes = [(ast.unparse(call.func), call.args[0]) for call in calls if ast.unparse(call.func).startswith("op.")]
    assert [(name, ast.literal_eval(table)) for name, table in changes] == [
        ("op.create_table", "shift"),
        ("op.drop_table", "shift"),
    ]


def test_workers_that_start_together_make_one_catalog(database_url: str) -> None:
    command = [sys.executable, "-c", PREPARE, database_url]
    workers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(WORKERS)]
    errors = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, errors
    database = Database(database_url)
    revision, defects = CatalogStore(database).load()
    assert (revision, len(defects)) == (1, 12)
    database.close()


def test_a_database_of_a_newer_gateway_is_refused_and_left_as_it_is(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="9999"):
        database.migrate()
    with database.read() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    database.close()


def test_an_error_in_a_transaction_undoes_all_of_it(database: Database) -> None:
    def fail() -> None:
        with database.write() as session:
            session.execute(text("UPDATE catalog_revision SET revision = 7"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as session:
        assert session.execute(text("SELECT revision FROM catalog_revision")).scalar_one() == 0
    database.close()


def test_a_glance_sees_every_commit_and_waits_for_nobody(tmp_path: Path) -> None:
    url, question = f"sqlite:///{tmp_path}/gateway.db", "SELECT revision FROM catalog_revision"
    mine, others = Database(url), Database(url)
    assert mine.glance(question) is None  # there is no file yet, and none is made
    assert not list(tmp_path.iterdir())
    others.migrate()
    for number in range(5):
        with others.write() as session:
            session.execute(text("UPDATE catalog_revision SET revision = :number"), {"number": number})
            assert mine.glance(question) == max(0, number - 1)  # what is not committed yet
        assert mine.glance(question) == number
    mine.close()
    others.close()
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as alone:
        alone.execute("PRAGMA locking_mode=EXCLUSIVE")
        alone.execute("BEGIN IMMEDIATE")
        assert mine.glance(question) is None
    assert mine.glance(question) == 4
    mine.close()


def test_postgresql_has_to_be_waited_for(postgresql_server: PostgreSQL) -> None:
    database = Database(postgresql_server.create())
    database.migrate()
    assert database.glance("SELECT revision FROM catalog_revision") is None
    database.close()


def test_a_database_that_stops_answering_is_given_up_and_found_again(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ANSWER_TIMEOUT_S", 0.5)
    question = select(literal(1))
    with Proxy(f"127.0.0.1:{postgresql_server.port}") as proxy, ThreadPoolExecutor() as pool:
        database = Database(postgresql_server.create().replace(str(postgresql_server.port), proxy.url.split(":")[1]))
        assert database.scalar(question) == 1
        proxy.fail("stall")  # what is sent is taken, and nothing comes back
        try:
            with pytest.raises(DatabaseError):
                pool.submit(database.scalar, question).result(PATIENCE_S)
            with pytest.raises(DatabaseError):
                pool.submit(_write, database).result(PATIENCE_S)
        finally:
            proxy.heal()
        assert database.scalar(question) == 1
        database.close()


def _write(database: Database) -> None:
    with database.write() as session:
        session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////proc/nowhere/gateway.db",
        "postgresql://me:secret@127.0.0.1:1/pcbd",
        "postgresql://me@127.0.0.1:1/pcbd?password=secret",
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseError, match="PCBD_DATABASE_URL") as caught:
        Database(url).migrate()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host:port/pcbd",
        "postgresql://me:top@secret@host/pcbd",
        "postgresql://me:top@secret:word@host/pcbd",
        "postgresql://me:secret@host/pcbd?plugin=none",
        "sqlite:///gateway.db?timeout=secret",
        "sqlite:///?mode=secret",
    ],
)
def test_a_url_that_means_no_database_is_an_error_without_its_password(url: str) -> None:
    for module in (["gateway.access", "list"], ["gateway"]):
        told = run_module(*module, PCBD_DATABASE_URL=url, PCBD_PORT="0")
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr.startswith("error: ")
        assert "PCBD_DATABASE_URL" in told.stderr
        assert len(told.stderr.splitlines()) == 1
        assert "secret" not in told.stderr


def test_a_read_only_folder_is_a_fault_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="file"):
        Database(f"sqlite:///{tmp_path}/file/gateway.db").migrate()


@pytest.mark.parametrize("url", ["mysql://host/name", "gateway.db", "sqlite:///", "http://host"])
def test_settings_refuse_another_kind_of_database(url: str) -> None:
    with pytest.raises(ValueError, match="database_url"):
        Settings(database_url=url)
