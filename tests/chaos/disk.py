"""Trial 9: a disk that is full, and a root that cannot be written; each in a mount namespace of the gateway's own.

Needs util-linux' unshare, and root or user namespaces.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.review.images import PATH
from tests.chaos.grounds import Gateway, Grounds, wait_until
from tests.chaos.load import Load, tile
from tests.chaos.trial import Outcome, Scale

DISK_KILOBYTES = 1024
FILL = 120  # requests whose pictures and rows fill it
NAMESPACE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))


def disk(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Every request is answered, and what was written is whole."""
    requests = max(FILL, scale.number(400, FILL))
    outcome.note("requests_each", requests)
    _full(grounds, requests, outcome)
    _read_only(grounds, requests, outcome)


def _full(grounds: Grounds, requests: int, outcome: Outcome) -> None:
    folder = grounds.folder / "small-disk"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_KILOBYTES}k tmpfs {folder} && exec "$@"'
    settings = {
        "database_url": f"sqlite:///{folder}/gateway.db",
        "image_store": f"file://{folder}/images",
        "review_random_share": "1",
    }
    with grounds.delayed(0), grounds.gateway((*NAMESPACE, "sh", "-c", mount, "sh"), **settings) as gateway:
        load = Load(gateway.url)
        load.by_clients(4, requests)
        outcome.same("full_disk_answers", dict(load.statuses()), {"200": requests})
        wait_until(lambda: _recorded(gateway) == requests, "every answer to be written or dropped")
        own = Path(f"/proc/{gateway.process.pid}/root{folder}")  # as the gateway sees it
        files = {path.relative_to(own / "images").as_posix(): path for path in (own / "images").rglob("*.*")}
        kept = {name for name in files if PATH.fullmatch(name)}
        outcome.least("pictures_kept", len(kept), 1)
        outcome.same("partial_pictures", sum(files[name].read_bytes() != tile() for name in kept), 0)
        outcome.note("broken_off_stages", len(files) - len(kept))
        for name in ("gateway.db", "gateway.db-wal"):  # SQLite would follow the link to the wrong root
            shutil.copy(own / name, gateway.folder)
        with closing(sqlite3.connect(gateway.folder / "gateway.db")) as database:
            outcome.same("database", database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
            rows = database.execute("SELECT image_path FROM inspections").fetchall()
        _judge_counts(gateway, requests, len(rows), {path for (path,) in rows if path}, kept, outcome)


def _judge_counts(
    gateway: Gateway, requests: int, rows: int, pointed_to: set[str], kept: set[str], outcome: Outcome
) -> None:
    """What the gateway counted is all that was asked, and what lies on the disk; each request came with a picture."""

    def pictures(what: str) -> int:
        return int(gateway.metric("pcbd_record_images_total", outcome=what))

    outcome.least("pictures_dropped", pictures("dropped"), 1)
    outcome.same("pictures_written_or_dropped", pictures("written") + pictures("dropped"), requests)
    outcome.note("pictures_deleted_with_their_rows", pictures("written") - len(kept))
    outcome.same("rows", rows, int(gateway.metric("pcbd_records_total", outcome="written")))
    outcome.same("rows_without_their_picture", len(pointed_to - kept), 0)
    outcome.same("pictures_without_a_row", len(kept - pointed_to), 0)


def _read_only(grounds: Grounds, requests: int, outcome: Outcome) -> None:
    locked = 'mount --rbind / / && mount -o remount,bind,ro / && exec "$@"'
    with grounds.delayed(0), grounds.gateway((*NAMESPACE, "sh", "-c", locked, "sh")) as gateway:
        load = Load(gateway.url)
        load.by_clients(4, requests)
        outcome.same("read_only_answers", dict(load.statuses()), {"200": requests})
        outcome.same("read_only_files", [path.name for path in gateway.folder.iterdir()], [gateway.log.name])
        outcome.same("read_only_database_up", gateway.metric("pcbd_database_up"), 0.0)


def _recorded(gateway: Gateway) -> float:
    return gateway.metric("pcbd_records_total")
