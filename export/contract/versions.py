"""The numbered folders of a model repository: which there are, whether they are whole, and who may change them."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from export.contract.files import sha256_of
from export.contract.promotion import CONFIG, RepositoryError
from export.contract.tensors import MODELS

MANIFEST = "manifest.json"
LOCK = ".lock"


def check_folder(repository: Path) -> None:
    """Raises RepositoryError when there is no repository."""
    if not repository.is_dir():
        raise RepositoryError(f"model repository {repository} is not a folder; build one with python -m export.build")


def check_place(repository: Path) -> None:
    """Raises RepositoryError when a repository is a mount point, so that nothing beside it is on its file system."""
    if repository.resolve().is_mount():
        raise RepositoryError(
            f"{repository} is a mount point; mount the folder above it: what is built, and the lock that all who write "
            "share, lie beside a repository"
        )


@contextmanager
def locked(file: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a file's lock, which ends with the process, however that ends; the file stays. Says so where it waits.

    It is opened for writing, and is no folder: NFS locks nothing else for all of its machines.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is false.
        OSError: the file cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(PermissionError):  # another user was faster
            os.fchmod(descriptor, 0o666)  # a command that root ran once does not lock the others out
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            print(f"waiting for another command, which holds {file}", file=sys.stderr, flush=True)  # noqa: T201
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def sole_writer(repository: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the repository's lock, a file beside it: .NAME.lock.

    Raises:
        RepositoryError: somebody else holds it, and `wait` is false; this process cannot write there; there is no
            repository, or it is a mount point.
    """
    check_folder(repository)
    check_place(repository)
    file = repository.resolve()
    file = file.with_name(f".{file.name}{LOCK}")
    with ExitStack() as held:
        try:
            held.enter_context(locked(file, wait=wait))
        except BlockingIOError:
            raise RepositoryError(f"another command is changing {repository}; try again when it has ended") from None
        except OSError as error:
            raise RepositoryError(
                f"{repository} cannot be changed from here: its lock cannot be held: {error}"
            ) from error
        yield


def versions(repository: Path, model: str) -> list[int]:
    """The numbers of a model's version folders, oldest first."""
    home = repository / model
    if not home.is_dir():
        return []
    return sorted(int(path.name) for path in home.iterdir() if path.is_dir() and path.name.isdigit())


def published(repository: Path) -> list[int]:
    """The versions that all models have, oldest first; what a killed command left behind is not among them."""
    needed = [(spec.name, name) for spec in MODELS for name in (MANIFEST, CONFIG)]
    return [
        number
        for number in versions(repository, MODELS[0].name)
        if all((repository / model / str(number) / name).is_file() for model, name in needed)
    ]


def read_manifest(repository: Path, model: str, version: int) -> dict[str, Any]:
    """What a model's version was published with.

    Raises:
        RepositoryError: the file cannot be read, or is not what `publish` wrote.
    """
    file = repository / model / str(version) / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        missing = {"created", "files"} - content.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise RepositoryError(f"{file} cannot be read ({error!r}); copy or export that version again") from error
    if missing:
        raise RepositoryError(f"{file} lacks {', '.join(sorted(missing))}; copy or export that version again")
    return content


def check_whole(repository: Path, version: int) -> None:
    """Compares a version's files with the hashes that it was published with.

    Raises:
        RepositoryError: names the files that are missing or changed, the manifest that cannot be read, or the versions
            that there are instead.
    """
    known = published(repository)
    if version not in known:
        raise RepositoryError(f"{repository} has no version {version}; it has {listed(known)}")
    damaged = []
    for spec in MODELS:
        folder = repository / spec.name / str(version)
        files: dict[str, str] = read_manifest(repository, spec.name, version)["files"]
        for path, sha256 in ((folder / name, sha256) for name, sha256 in files.items()):
            if not path.is_file() or sha256_of(path) != sha256:
                damaged.append(str(path))
    if damaged:
        raise RepositoryError(
            f"version {version} is not what was published, these files are missing or changed: {', '.join(damaged)}; "
            "copy or export it again"
        )


def listed(numbers: list[int]) -> str:
    """Version numbers as a message names them."""
    return ", ".join(map(str, numbers)) or "none; publish one with python -m export.build"
