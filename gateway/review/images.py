"""Where pictures of inspections are kept: a folder, or a bucket of an object store. Every call blocks.

Knows no database. A picture's path is its day and a random name, whatever the request was called.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from gateway.errors import ImageStoreError, NotFoundError

KINDS = {b"\xff\xd8\xff": ("image/jpeg", "jpg"), b"\x89PNG": ("image/png", "png"), b"BM": ("image/bmp", "bmp")}
OTHER_KIND = ("image/tiff", "tiff")  # no other picture is ever answered
PATH = re.compile(r"\d{4}/\d\d/\d\d/[0-9a-f]{32}\.(?:jpg|png|bmp|tiff)")  # nothing else is ever listed or deleted
STAGE = re.compile(PATH.pattern + r"#\d+")  # what a write to a folder that was broken off leaves
TIMEOUT = timedelta(seconds=10)
PIECE_BYTES = 2**19  # at least, of a picture: about what is held for each client that takes it


class ImageStore:
    """The store of a URL: file:///FOLDER (the folder is made), s3://BUCKET/PREFIX, gs:// or az://.

    Buckets take their credentials, region and endpoint from the usual variables (AWS_ACCESS_KEY_ID, ...).
    """

    def __init__(self, url: str) -> None:
        local = url.startswith("file:")
        self._folder = Path(unquote(urlsplit(url).path)) if local else None
        client = {"timeout": TIMEOUT, "allow_http": True}  # which only an endpoint set to http:// uses
        remote = {"client_options": client, "retry_config": {"max_retries": 2, "retry_timeout": TIMEOUT}}
        try:
            self._store = from_url(url, mkdir=True) if local else from_url(url, **remote)  # type: ignore[call-overload]
        except (BaseError, ValueError, OSError) as error:
            raise ValueError(
                f"PCBD_IMAGE_STORE is {url!r}: {_first_line(error)}; expected file:///FOLDER, s3://BUCKET/PREFIX, "
                "gs://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX"
            ) from error

    def put(self, data: bytes, at: datetime) -> tuple[str, str]:
        """Keeps the bytes of a picture; its path and its media type.

        Raises:
            ImageStoreError: the store cannot be written.
        """
        media_type, suffix = next((kind for mark, kind in KINDS.items() if data.startswith(mark)), OTHER_KIND)
        path = f"{at.astimezone(UTC):%Y/%m/%d}/{uuid.uuid4().hex}.{suffix}"
        try:
            obstore.put(self._store, path, data)
        except (BaseError, OSError) as error:
            raise _failure("written", error) from error
        return path, media_type

    def get(self, path: str) -> bytes:
        """The bytes of a picture; raises as `open` does."""
        return b"".join(self.open(path)[1])

    def open(self, path: str) -> tuple[int, Iterator[bytes]]:
        """The size of a picture in bytes, and its bytes piece by piece, which are read as they are asked for.

        Raises:
            NotFoundError: it is not there.
            ImageStoreError: the store cannot be read; also while the pieces are.
        """
        try:
            found = obstore.get(self._store, path)
            return found.meta["size"], _pieces(found)
        except FileNotFoundError:
            raise NotFoundError(f"the image store has no {path} any more") from None
        except (BaseError, OSError) as error:
            raise _failure("read", error) from error

    def delete(self, paths: Iterable[str]) -> None:
        """Deletes pictures; one that is not there is no matter.

        Raises:
            ImageStoreError: the store cannot be written.
        """
        for path in paths:
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise _failure("written", error) from error

    def paths(self) -> Iterator[tuple[str, datetime]]:
        """Every picture's path and when it was written.

        Raises:
            ImageStoreError: the store cannot be read.
        """
        try:
            for batch in obstore.list(self._store):
                for entry in batch:
                    if PATH.fullmatch(entry["path"]):
                        yield entry["path"], entry["last_modified"]
        except (BaseError, OSError) as error:
            raise _failure("read", error) from error

    def sweep_stages(self, before: datetime) -> int:
        """Deletes what writes that a crash broke off have left in a folder; how many."""
        if self._folder is None:
            return 0  # an object comes about whole or not at all
        stages = [
            path
            for path in self._folder.glob("*/*/*/*#*")
            if STAGE.fullmatch(path.relative_to(self._folder).as_posix()) and _is_older(path, before)
        ]
        for path in stages:
            path.unlink(missing_ok=True)
        return len(stages)


def _is_older(path: Path, before: datetime) -> bool:
    try:
        return path.stat().st_mtime < before.timestamp()
    except FileNotFoundError:  # the write is over
        return False


def _pieces(found: "obstore.GetResult") -> Iterator[bytes]:
    try:
        yield from map(bytes, found.stream(min_chunk_size=PIECE_BYTES))
    except (BaseError, OSError) as error:
        raise _failure("read", error) from error


def _failure(verb: str, error: Exception) -> ImageStoreError:
    return ImageStoreError(f"the image store cannot be {verb}: {_first_line(error)}; see PCBD_IMAGE_STORE")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
