"""Trial 17's checks fail on what they are to find, and its victims end with the suite."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from gateway.catalog.defect import Defect
from gateway.catalog.precondition import Precondition
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from tests.chaos.crash import check_catalog
from tests.conftest import ROOT

PATIENCE_S = 60
SUITE = """
import sys, time
from pathlib import Path
from tests.chaos.crash import FORKS, edit
victim = FORKS.Process(target=edit, args=(Path(sys.argv[1]),))
victim.start()
while not (Path(sys.argv[1]) / "begun").exists():
    time.sleep(0.01)
print(victim.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalog in which one defect was changed twice."""
    database = Database(f"sqlite:///{tmp_path}/gateway.db")
    store = CatalogStore(database)
    store.prepare()
    for text in ("bright", "dark"):
        glue = Defect(id="glue", names={"en": ("glue",)}, descriptions={"en": (text,)})
        store.put(glue, "王工", Precondition())
    database.close()
    return tmp_path


def test_a_whole_catalog_passes(folder: Path) -> None:
    assert check_catalog(folder)["changes"] == 12 + 2


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM defect_changes WHERE defect_id = 'glue' AND version = 1", "missing in the history of .*glue"),
        ("DELETE FROM defect_changes WHERE defect_id = 'glue' AND version = 2", "by the history"),
        ("UPDATE defects SET version = 1 WHERE id = 'glue'", "by the history"),
        ("DELETE FROM defects WHERE id = 'glue'", "by the history"),
    ],
)
def test_a_half_written_change_is_found(folder: Path, damage: str, fault: str) -> None:
    with closing(sqlite3.connect(folder / "gateway.db")) as connection, connection:
        connection.execute(damage)
    with pytest.raises(AssertionError, match=fault):
        check_catalog(folder)


def test_a_victim_ends_with_the_suite(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUITE, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as suite:
        victim = psutil.Process(int(suite.stdout.readline()))
        suite.kill()
    try:
        victim.wait(PATIENCE_S)
    except psutil.TimeoutExpired:
        victim.kill()
        raise
