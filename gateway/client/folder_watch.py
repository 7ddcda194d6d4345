"""The pictures that a camera leaves in a folder: each read once, when it is complete, over restarts too.

What is done stands in one file of results, a line of JSON for each picture. It is the memory as well: a picture whose
name, size and time of change stand in it is done. Folders are looked at again and again, not subscribed to: network
shares tell nobody that something has come. One watch at a time works on a file of results.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.client.asking import Outcome
from gateway.client.errors import RefusedError
from gateway.client.pictures import is_picture

OPENING = b'{"file": "'  # of each line


@dataclass(frozen=True)
class Arrived:
    """A picture as it was last seen: another size or time of change makes it another picture."""

    path: Path
    size: int
    mtime_ns: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What the file of results knows it by."""
        return (self.path.name, self.size, self.mtime_ns)

    def key(self, request: str) -> str:
        """The idempotency key of this picture in that request: after a crash the answer may be there already."""
        return hashlib.sha256(repr((self.identity, request)).encode()).hexdigest()


class Results:
    """The file of results; a line is on disk before `add` returns.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._done: set[tuple[str, int, int]] = set()
        self._file.seek(0)
        whole, line = 0, b"\n"
        for number, line in enumerate(self._file, 1):
            try:
                entry = json.loads(line)
                self._done.add((entry["file"], entry["size"], entry["mtime_ns"]))
            except (ValueError, TypeError, KeyError) as error:
                is_torn = isinstance(error, ValueError) and not line.endswith(b"\n")
                if is_torn and line[: len(OPENING)] == OPENING[: len(line)]:
                    self._file.truncate(whole)  # the machine stopped while it was being written: it is not done
                    return
                self._file.close()
                raise ValueError(f"{path}, line {number}, is no result of a watch; give another file") from error
            whole += len(line)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")  # the next result has a line of its own

    def has(self, arrived: Arrived) -> bool:
        """Whether that picture is done."""
        return arrived.identity in self._done

    def add(self, arrived: Arrived, outcome: Outcome) -> None:
        """Keeps an answer, or a problem that asking again would not mend."""
        name, size, mtime_ns = arrived.identity
        entry: dict[str, Any] = {"file": name, "size": size, "mtime_ns": mtime_ns, **content_of(outcome)}
        line = json.dumps(entry, ensure_ascii=False)
        # What of a name is no UTF-8 is written as JSON escapes it, and read back as the same name.
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._done.add(arrived.identity)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Folder:
    """Tells which pictures are complete: unchanged in size and time for `settle_s`."""

    def __init__(self, path: Path, settle_s: float) -> None:
        self._path = path
        self._settle_s = settle_s
        self._seen: dict[Path, tuple[Arrived, float]] = {}  # since when it has looked as it does
        self._pauses: dict[Arrived, float] = {}  # the last one of each that was put off

    def look(self, results: Results) -> list[Arrived]:
        """What is complete and not done, the oldest first.

        Raises:
            OSError: the folder cannot be read; what was seen of it before stays seen.
        """
        now = time.monotonic()
        found = {arrived.path: arrived for arrived in self._list() if not results.has(arrived)}
        self._seen = {
            path: self._seen[path] if path in self._seen and self._seen[path][0] == arrived else (arrived, now)
            for path, arrived in found.items()
        }
        self._pauses = {arrived: self._pauses[arrived] for arrived in found.values() if arrived in self._pauses}
        complete = [arrived for arrived, since in self._seen.values() if now - since >= self._settle_s]
        return sorted(complete, key=lambda arrived: arrived.mtime_ns)

    def put_off(self, arrived: Arrived, pause_s: float, longest_s: float) -> float:
        """Counts a picture as complete again after a pause: `pause_s`, then twice the last one, at most `longest_s`."""
        pause_s = min(2 * self._pauses[arrived] if arrived in self._pauses else pause_s, longest_s)
        self._pauses[arrived] = pause_s
        self._seen[arrived.path] = (arrived, time.monotonic() + pause_s - self._settle_s)
        return pause_s

    @property
    def is_settled(self) -> bool:
        """Whether nothing in the folder is still to be done, as of the last look."""
        return not self._seen

    def _list(self) -> Iterator[Arrived]:
        for path in self._path.iterdir():
            try:
                if is_picture(path):
                    state = path.stat()
                    yield Arrived(path, state.st_size, state.st_mtime_ns)
            except FileNotFoundError:
                continue  # taken away between two looks
            except OSError:
                yield Arrived(path, 0, 0)  # reading it will say why, and holds up no other


def content_of(outcome: Outcome) -> Mapping[str, Any]:
    """An outcome as JSON: the answer without its picture, the gateway's problem, or the error."""
    if outcome.answer is not None:
        return {"answer": outcome.answer.model_dump(mode="json", exclude={"annotated"})}
    if isinstance(outcome.error, RefusedError):
        return {"problem": outcome.error.problem.model_dump()}
    return {"error": str(outcome.error)}
