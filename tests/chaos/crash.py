"""Trial 17: SIGKILL at random moments while recording, editing the catalog, publishing: nothing half-written is read.

Each victim is a process forked from one that has everything imported. It works without a pause, and is read while it
works and after it was killed. A power cut is something else: what the system had not written yet would be lost too.
"""

import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path

from export.contract.promotion import read_promoted
from export.contract.versions import check_whole, published
from export.repository import promote, prune
from gateway.catalog.defect import Defect
from gateway.catalog.precondition import Precondition
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.review.images import PATH, ImageStore
from gateway.review.inspection import InspectionQuery
from gateway.review.recorder import Recorder
from gateway.review.store import Record, ReviewStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tests.chaos.grounds import Grounds
from tests.chaos.load import tile
from tests.chaos.trial import Outcome, Scale
from tests.export.test_repository import publish_one, served
from tests.gateway.review.test_store import answer_of

VERSIONS_WITH_GAPS = "SELECT defect_id FROM defect_changes GROUP BY defect_id HAVING count(*) <> max(version)"
LONGEST_S = 0.4  # that a victim lives once it has begun
FORKS = multiprocessing.get_context("forkserver")


def lives_on() -> bool:
    """Whether the suite that started this victim does; one that outlived it would write until the disk is full."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def crash(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """200 times each."""
    times = scale.number(200, 8)
    FORKS.set_forkserver_preload([__name__])
    outcome.note("kills_each", times)
    for work, check in WORKS:
        folder = grounds.folder / f"crash-{work.__name__}"
        folder.mkdir()
        faults, reads = _kill(work, check, folder, times)
        outcome.note(f"{work.__name__}_read", reads)
        outcome.note(f"{work.__name__}_left", check(folder))
        outcome.same(f"{work.__name__}_faults", faults, [])


def _kill(
    work: Callable[[Path], None], check: Callable[[Path], dict[str, int]], folder: Path, times: int
) -> tuple[list[str], int]:
    """What was wrong, and how often it was read."""
    rng, faults, reads = random.Random(0), [], 0
    for number in range(times):
        victim = FORKS.Process(target=work, args=(folder,))
        victim.start()
        while not (folder / "begun").exists():
            assert victim.is_alive(), f"{work.__name__} ended by itself"
            time.sleep(0.001)
        (folder / "begun").unlink()
        until = time.monotonic() + rng.uniform(0, LONGEST_S)
        try:
            while (left_s := until - time.monotonic()) > 0:
                if work is publish:  # three files are no one moment: only Triton's own look at them counts
                    time.sleep(left_s)
                else:
                    check(folder)
                    reads += 1
            victim.kill()
            victim.join()
            check(folder)
            reads += 1
        except Exception as error:  # noqa: BLE001 - whatever a reader meets is a fault
            faults.append(f"kill {number}: {error!r}")
        finally:
            victim.kill()
            victim.join()
            victim.close()
    return faults, reads


def record(folder: Path) -> None:
    """As the gateway's recorder: pictures, then the rows that point to them."""
    database = Database(f"sqlite:///{folder}/gateway.db")
    CatalogStore(database).prepare()
    recorder = Recorder(ReviewStore(database), ImageStore(f"file://{folder}/images"), Settings(), Metrics())
    (folder / "begun").touch()
    while lives_on():
        recorder._write([Record(answer_of("a", "short"), datetime.now(UTC), [0.5], "random", tile()) for _ in range(4)])


def check_records(folder: Path) -> dict[str, int]:
    """Every row can be read, and its picture is whole; so is every other picture that a reader would find."""
    _check_database(folder)
    database, images = Database(f"sqlite:///{folder}/gateway.db"), ImageStore(f"file://{folder}/images")
    store = ReviewStore(database)
    page = store.page(InspectionQuery(limit=20))  # the newest: those that a kill may have broken
    for inspection in page.inspections:
        assert store.get(inspection.request_id).answer["counts"] == {"short": 1}
    database.close()
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:
        paths = [path for (path,) in connection.execute("SELECT image_path FROM inspections ORDER BY id DESC LIMIT 20")]
        rows = connection.execute("SELECT count(*) FROM inspections").fetchone()[0]
    for path in paths:
        assert images.get(path) == tile(), f"{path} is not whole"
    files = [path for path in (folder / "images").rglob("*") if path.is_file()]
    pictures = [path for path in files if PATH.fullmatch(path.relative_to(folder / "images").as_posix())]
    for path in sorted(pictures, key=lambda each: each.stat().st_mtime)[-20:]:
        assert path.stat().st_size == len(tile()), f"{path} is not whole"
    return {"rows": rows, "pictures": len(pictures), "broken_off_stages": len(files) - len(pictures)}


def edit(folder: Path) -> None:
    """Changes, adds and deletes a defect, and replaces the whole catalog."""
    database = Database(f"sqlite:///{folder}/gateway.db")
    store = CatalogStore(database)
    store.prepare()
    (folder / "begun").touch()
    for number in takewhile(lambda _: lives_on(), count()):
        glue = Defect(id="glue", names={"en": ("glue",)}, descriptions={"en": (f"text {number} of {time.time()}",)})
        store.put(glue, "王工", Precondition())
        whole = [Defect(id=each.id, **dict(each.fields)) for each in store.load()[1]]
        store.replace([*whole[:-1], glue] if number % 2 else whole[::-1], "王工", Precondition())
        store.delete("glue", "王工", Precondition())


def check_catalog(folder: Path) -> dict[str, int]:
    """The catalog can be read, and is what its history says."""
    _check_database(folder)
    database = Database(f"sqlite:///{folder}/gateway.db")
    store = CatalogStore(database)
    revision, defects = store.load()
    assert len(defects) in {12, 13}, f"{len(defects)} defects"
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:
        connection.execute("BEGIN")
        last = dict(
            connection.execute(
                "SELECT defect_id, version FROM defect_changes AS c WHERE after IS NOT NULL AND version = "
                "(SELECT max(version) FROM defect_changes WHERE defect_id = c.defect_id)"
            )
        )
        there = dict(connection.execute("SELECT id, version FROM defects"))
        gaps = connection.execute(VERSIONS_WITH_GAPS).fetchall()
        (changes,) = connection.execute("SELECT count(*) FROM defect_changes").fetchone()
    assert not gaps, f"versions are missing in the history of {gaps}"
    assert last == there, f"there are the versions {there}, and by the history {last}"
    database.close()
    return {"revision": revision, "changes": changes}


def publish(folder: Path) -> None:
    """Publishes, promotes and prunes versions."""
    repository = folder / "models"
    if not repository.exists():
        publish_one(repository, "first")
    (folder / "begun").touch()
    for number in takewhile(lambda _: lives_on(), count()):
        promote(repository, publish_one(repository, f"checkpoint {number} of {time.time()}"))
        prune(repository, 2)


def check_repository(folder: Path) -> dict[str, int]:
    """What Triton would read is one whole version of all models, and every version that is listed is whole."""
    repository = folder / "models"
    version, _ = served(repository)
    numbers = published(repository)
    assert version in numbers, f"{version} is served and not published"
    for number in numbers:
        check_whole(repository, number)
    return {"served": version, "versions": len(numbers), "promoted": len(read_promoted(repository))}


def _check_database(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "gateway.db")) as database:
        (said,) = database.execute("PRAGMA quick_check").fetchone()
        assert said == "ok", said


WORKS: tuple[tuple[Callable[[Path], None], Callable[[Path], dict[str, int]]], ...] = (
    (record, check_records),
    (edit, check_catalog),
    (publish, check_repository),
)
