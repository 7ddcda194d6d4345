"""What goes out for training, and what a crash leaves of it; on SQLite and PostgreSQL."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog.defect import Defect, Names
from gateway.catalog.precondition import Precondition
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError
from gateway.review.export import export
from gateway.review.images import ImageStore
from gateway.review.store import KeptImage, ReviewStore
from tests.conftest import BOARD, run_module
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, record_of

PICTURE = BOARD.read_bytes()
NOW = datetime.now(UTC)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(f"file://{tmp_path}/images")


def inspect(store: ReviewStore, images: ImageStore, request_id: str, *defects: str, recipe: str = "A7") -> str:
    """Records an inspection with its picture; the picture's path."""
    path, media_type = images.put(PICTURE, NOW)
    kept = KeptImage(path, media_type, len(PICTURE))
    store.add([record_of(answer_of(request_id, *defects, recipe=recipe), at=NOW, kept=kept)])
    return path


def read(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return tree


def exported_ids(database: Database) -> list[str]:
    with database.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT request_id FROM inspections WHERE exported_at IS NOT NULL ORDER BY id"
        )
        return list(rows.scalars())


def test_only_finished_reviews_with_a_picture_go_out_and_are_marked(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    for name in ("found", "sound", "unreviewed", "unfinished", "another"):
        inspect(store, images, name, "short", recipe="B" if name == "another" else "A7")
    lost = inspect(store, images, "lost", "short")
    images.delete([lost])
    store.add([record_of(answer_of("none_kept", "short", recipe="A7"))])
    store.give_feedback(feedback_of("sound", "false"), "me", DEFECTS)
    store.give_feedback(feedback_of("unfinished", missed=1), "me", DEFECTS)
    for name in ("found", "lost", "none_kept", "another"):
        store.give_feedback(feedback_of(name, "right", missed=1), "me", DEFECTS)

    done = export(database, images, tmp_path / "out", recipe="A7")
    assert (done.pictures, done.boxes, done.without_image, done.unfinished) == (2, 2, 2, 1)
    tree = read(tmp_path / "out")
    assert [len([a for a in tree["annotations"] if a["image_id"] == image["id"]]) for image in tree["images"]] == [2, 0]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2
    assert exported_ids(database) == ["found", "sound"]
    store.give_feedback(feedback_of("found", "false"), "me", DEFECTS)  # must go out again
    assert exported_ids(database) == ["sound"]


def test_a_deleted_defect_whose_id_is_the_name_of_another_stays_behind(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    for name, defect in (("a", "short"), ("b", "spur")):
        inspect(store, images, name, defect)
        store.give_feedback(feedback_of(name, "right"), "me", DEFECTS)
    catalog = CatalogStore(database)
    catalog.delete("short", "me", Precondition())
    catalog.put(Defect(id="bridge", names=Names(en=("Short",))), "me", Precondition())
    done = export(database, images, tmp_path / "out")
    assert (done.pictures, done.mistakable) == (1, 1)
    assert exported_ids(database) == ["b"]


def test_the_day_is_that_of_the_review(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path
) -> None:
    inspect(store, images, "a", "short")
    store.give_feedback(feedback_of("a", "right"), "me", DEFECTS)
    with pytest.raises(NotFoundError, match="nothing to export"):
        export(database, images, tmp_path / "out", since=datetime.now(UTC) + timedelta(minutes=1))
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(("out", ".partial"))] == []
    assert export(database, images, tmp_path / "out", since=NOW - timedelta(minutes=1)).pictures == 1


def test_an_export_that_breaks_off_leaves_no_folder_and_the_next_is_whole(
    store: ReviewStore, database: Database, images: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        inspect(store, images, name, "short")
        store.give_feedback(feedback_of(name, "right"), "me", DEFECTS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            export(database, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert exported_ids(database) == []
    assert export(database, images, tmp_path / "out").pictures == 2
    with pytest.raises(ConflictError, match="there already"):
        export(database, images, tmp_path / "out")


def test_the_command_says_what_is_wrong_and_what_it_did(
    store: ReviewStore, images: ImageStore, database_url: str, tmp_path: Path
) -> None:
    inspect(store, images, "a", "short")
    variables = {"PCBD_DATABASE_URL": database_url, "PCBD_IMAGE_STORE": f"file://{tmp_path}/images"}
    pruned = run_module("gateway.review", "prune", **variables)
    assert (pruned.returncode, pruned.stdout.startswith("0 inspections too old")) == (0, True)
    nothing = run_module("gateway.review", "export", "--out", str(tmp_path / "out"), **variables)
    assert (nothing.returncode, "nothing to export" in nothing.stderr) == (1, True)
    for since in ("2026-11-01T00:00+08:00", "2026-11-01T12:00", "yesterday"):
        refused = run_module("gateway.review", "export", "--out", str(tmp_path / "out"), "--since", since, **variables)
        assert (refused.returncode, since in refused.stderr, "UTC" in refused.stderr) == (2, True, True)
    store.give_feedback(feedback_of("a", "right"), "me", DEFECTS)
    tomorrow, yesterday = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (1, -1))
    arguments = ["export", "--out", str(tmp_path / "out"), "--since"]
    assert "nothing to export" in run_module("gateway.review", *arguments, tomorrow, **variables).stderr
    assert "1 pictures" in run_module("gateway.review", *arguments, yesterday, **variables).stdout
    unset = run_module("gateway.review", "export", "--out", "out", **variables | {"PCBD_IMAGE_STORE": ""})
    assert (unset.returncode, "PCBD_IMAGE_STORE" in unset.stderr) == (1, True)
    wrong = run_module("gateway.review", "prune", **variables | {"PCBD_RECORD_RETENTION_DAYS": "0"})
    assert (wrong.returncode, "PCBD_RECORD_RETENTION_DAYS" in wrong.stderr) == (1, True)
