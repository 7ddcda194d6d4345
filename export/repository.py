"""The Triton model repository: versions as numbered folders, whole or not at all, one of them served.

    python -m export.repository list     [--repository model_repository] [--triton 127.0.0.1:8001] [--json]
    python -m export.repository promote  N [--beside M ...] [--repository ...] [--triton ...]
    python -m export.repository rollback   [--repository ...] [--triton ...]
    python -m export.repository prune    --keep K [--repository ...] [--triton ...]

A version is built beside the repository, on the same file system but outside of what Triton would take for models,
then renamed into place; all models of a checkpoint get the same number, and are served, replaced and deleted
together. A published version never changes. The first is served at once, a later one when it is promoted;
export/contract/promotion.py says how. With --triton the Triton at that address follows before the command ends, and
where it cannot, everything returns to what was served before. Knows nothing of what the models compute.
"""

import argparse
import contextlib
import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from export.contract.files import sha256_of, sync
from export.contract.promotion import CONFIG, RepositoryError, read_beside, read_promoted, write_promoted
from export.contract.tensors import MODELS, graphs
from export.contract.versions import (
    LOCK,
    MANIFEST,
    check_folder,
    check_place,
    check_whole,
    listed,
    locked,
    published,
    read_manifest,
    sole_writer,
    versions,
)
from export.runtime.engine import engine_file
from export.triton.config import read_config
from export.triton.control import TritonControl

MODEL_PY = '''"""Runs this folder's engine inside Triton's Python backend."""

from export.runtime.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Version:
    """A published version: what it was made from, and whether it is used."""

    version: int
    created: str  # ISO 8601, UTC
    checkpoint: str
    precision: str
    target: str
    active: str  # "served", "beside", "rollback" for the one that a rollback returns to and not beside, or ""
    loaded: tuple[str, ...]  # the models of it that Triton has ready; none when Triton was not asked


def staging_folder(repository: Path) -> Path:
    """An empty folder beside the repository to stage a version in, the caller's own: builds do not mix their files."""
    staging = _staging(repository)
    staging.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{staging.name}-", dir=staging.parent))
    for spec in MODELS:
        (folder / spec.name).mkdir()
    return folder


@contextlib.contextmanager
def held_staging(repository: Path) -> Iterator[Path]:
    """A staging folder for as long as the block; those that killed commands left are deleted.

    Raises:
        RepositoryError: the repository is a mount point.
    """
    check_place(repository)
    with contextlib.ExitStack() as held:
        with _nobody_clears(repository):
            folder = staging_folder(repository)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(locked(folder / LOCK))
        clear_staging(repository)
        yield folder


def clear_staging(repository: Path) -> None:
    """Deletes the staging folders that nobody holds, and says which it has to leave, such as another user's."""
    staging = _staging(repository)
    with _nobody_clears(repository):
        for folder in staging.parent.iterdir():
            if not folder.name.startswith(f"{staging.name}-"):
                continue
            try:
                with locked(folder / LOCK):
                    pass  # nobody holds it, and nobody comes to
                shutil.rmtree(folder)  # NFS deletes no folder with an open file in it
            except (BlockingIOError, FileNotFoundError):
                continue
            except OSError as error:
                print(f"{folder} is left where it is: {error}", file=sys.stderr)  # noqa: T201


def publish(repository: Path, staging: Path, configs: Mapping[str, str], manifest: Mapping[str, Any]) -> int:
    """Moves the staged models into the repository as its next version and returns that number.

    The first version is promoted with it; a later one changes nothing of what is served, unless that is not there.
    Waits while another command is changing the repository.

    Args:
        repository: created if it does not exist.
        staging: one folder per model with its engine files.
        configs: text of config.pbtxt by model name.
        manifest: what the version was made from; hashes of all files are added.

    Raises:
        EngineError: a model's folder lacks the engine of one of its graphs.
        RepositoryError: the repository cannot be changed from here, or what it says of itself cannot be read.
    """
    for spec in MODELS:
        for graph in graphs(spec):
            engine_file(staging / spec.name, graph)
    repository.mkdir(parents=True, exist_ok=True)
    with sole_writer(repository, wait=True):
        promoted, there = read_promoted(repository), promotions(repository)
        known = [number for spec in MODELS for number in versions(repository, spec.name)]
        version = 1 + max((*known, *promoted, *read_beside(repository)), default=0)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for spec in MODELS:
            folder = staging / spec.name
            if read_config(configs[spec.name]).backend == "python":
                (folder / "model.py").write_text(MODEL_PY, encoding="utf-8")
            (folder / CONFIG).write_text(configs[spec.name], encoding="utf-8")
            files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
            content = {"model": spec.name, "version": version, "created": created, **manifest, "files": files}
            (folder / MANIFEST).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            for path in (*folder.iterdir(), folder):
                sync(path)
        moved: list[Path] = []
        try:
            for spec in MODELS:
                home = repository / spec.name
                home.mkdir(exist_ok=True)
                (staging / spec.name).rename(home / str(version))
                moved.append(home / str(version))
                sync(home)
            if not promoted or promoted[-1] not in there:
                write_promoted(repository, (*there, version), read_config)
        except (OSError, RepositoryError):
            for folder in moved:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(staging, ignore_errors=True)
        return version


def describe(repository: Path, triton: TritonControl | None = None) -> list[Version]:
    """All published versions, oldest first.

    Raises:
        RepositoryError: there is no repository, a manifest cannot be read, or Triton does not answer.
    """
    check_folder(repository)
    loaded = triton.loaded() if triton else {}
    active = dict(zip(reversed(promotions(repository)), ("served", "rollback"), strict=False))
    active |= dict.fromkeys(read_beside(repository), "beside")
    described = []
    for number in published(repository):
        manifest = read_manifest(repository, MODELS[0].name, number)
        described.append(
            Version(
                version=number,
                created=manifest["created"],
                checkpoint=manifest.get("checkpoint_name", ""),
                precision=manifest.get("precision", ""),
                target=manifest.get("target", ""),
                active=active.get(number, ""),
                loaded=tuple(model for model, numbers in loaded.items() if number in numbers),
            )
        )
    return described


def promote(repository: Path, version: int, triton: TritonControl | None = None, beside: Collection[int] = ()) -> None:
    """Makes `version` the served one of all models together; those `beside` it answer who asks for them by number.

    Raises:
        RepositoryError: there is no such version, its files are damaged, one cannot be served beside it, another
            command is changing the repository, or Triton does not follow; the message says what is served then.
    """
    with sole_writer(repository):
        after = [*(number for number in promotions(repository) if number != version), version]
        _serve(repository, after, sorted({*beside} - {version}), triton)


def rollback(repository: Path, triton: TritonControl | None = None) -> int:
    """Makes the version that was promoted before the served one the served one again, and returns its number.

    Raises:
        RepositoryError: there is none, or as `promote` raises it.
    """
    with sole_writer(repository):
        history = promotions(repository)
        if len(history) < 2:
            raise RepositoryError(
                f"{repository} has no version to return to: none was promoted before "
                f"{history[-1] if history else 'any'}; promote one of {listed(published(repository))}"
            )
        _serve(repository, history[:-1], [], triton)
        return history[-2]


def prune(repository: Path, keep: int, triton: TritonControl | None = None) -> list[int]:
    """Deletes all versions but the newest `keep`, the served one and the one that a rollback returns to.

    What a killed command left behind goes too. Returns the deleted numbers, oldest first.

    Raises:
        RepositoryError: `keep` is below 1, nothing was promoted yet, or Triton does not answer.
    """
    if keep < 1:
        raise RepositoryError(f"--keep is {keep}, expected at least 1: numbers of deleted versions must not come again")
    with sole_writer(repository):
        history = promotions(repository)
        if not history:
            raise RepositoryError(f"no version of {repository} is promoted; promote one before others are deleted")
        kept = {*published(repository)[-keep:], *history[-2:], *read_beside(repository)}
        for numbers in (triton.loaded() if triton else {}).values():
            kept |= numbers
        doomed = {number for spec in MODELS for number in versions(repository, spec.name)} - kept
        with held_staging(repository) as apart:  # outside at once: a Triton that polls takes what is left for a change
            for spec in MODELS:
                home = repository / spec.name
                for number in doomed.intersection(versions(repository, spec.name)):
                    (home / str(number)).rename(apart / spec.name / str(number))
                sync(home)
        return sorted(doomed)


def promotions(repository: Path) -> list[int]:
    """The promoted versions that are still there; the last is served."""
    known = published(repository)
    return [number for number in read_promoted(repository) if number in known]


def _staging(repository: Path) -> Path:
    """What the paths of staging folders begin with."""
    home = repository.resolve()
    return home.with_name(f".{home.name}.staging")


def _nobody_clears(repository: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps staging folders from being cleared between the moments when they are made and held."""
    staging = _staging(repository)
    staging.parent.mkdir(parents=True, exist_ok=True)
    return locked(staging.with_name(f"{staging.name}{LOCK}"), wait=True)


def _serve(repository: Path, after: list[int], beside: list[int], triton: TritonControl | None) -> None:
    version = after[-1]
    for number in (version, *beside):
        check_whole(repository, number)
    if triton is not None:
        triton.loaded()  # it answers, or nothing is touched
    before, before_beside = promotions(repository), list(read_beside(repository))
    write_promoted(repository, after, read_config, beside)
    if triton is None:
        return
    try:
        triton.follow({version, *beside})
    except RepositoryError as error:
        raise RepositoryError(
            f"version {version} is not served: {error}. {_return(repository, before, before_beside, triton)}"
        ) from error


def _return(repository: Path, before: list[int], beside: list[int], triton: TritonControl) -> str:
    """Undoes a promotion that Triton could not follow; says what came of that."""
    if not before:
        return "The repository says it all the same: no version was promoted before it."
    write_promoted(repository, before, read_config, beside)
    try:
        triton.follow({before[-1], *beside})
    except RepositoryError as error:
        return f"The repository is back at version {before[-1]}, Triton is not ({error}): restart it."
    return f"The repository and Triton are at version {before[-1]} as before."


def _table(rows: list[Version], with_triton: bool) -> str:
    names = [field.name for field in fields(Version)][: None if with_triton else -1]
    cells = [names] + [[_cell(getattr(row, name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cell(value: int | str | tuple[str, ...]) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def main() -> int:
    """Runs the command line; 1 when the repository stays, or comes back to, what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--repository", type=Path, default=Path("model_repository"))
    common.add_argument("--triton", metavar="HOST:PORT", help="gRPC address of the Triton that serves the repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="the versions").add_argument("--json", action="store_true")
    promoting = commands.add_parser("promote", parents=[common], help="serve a version")
    promoting.add_argument("version", type=int)
    promoting.add_argument(
        "--beside", metavar="M", type=int, nargs="+", default=[], help="versions for those who ask for them by number"
    )
    commands.add_parser("rollback", parents=[common], help="serve the version promoted before")
    commands.add_parser("prune", parents=[common], help="delete old versions").add_argument(
        "--keep", type=int, required=True, help="how many of the newest versions stay"
    )
    arguments = parser.parse_args()
    repository: Path = arguments.repository
    triton = TritonControl(arguments.triton) if arguments.triton else None
    served = f"served by Triton at {triton.url}" if triton else "served when Triton starts again; --triton tells it now"
    try:
        if arguments.command == "list":
            rows = describe(repository, triton)
            text = json.dumps([asdict(row) for row in rows], indent=2) if arguments.json else _table(rows, bool(triton))
            lagging = [row.version for row in rows if row.active == "served" and len(row.loaded) < len(MODELS)]
            if triton and lagging:
                print(  # noqa: T201
                    f"Triton at {triton.url} does not serve version {lagging[0]}, as the repository says; have it "
                    f"follow: python -m export.repository promote {lagging[0]} --triton {triton.url}",
                    file=sys.stderr,
                )
        elif arguments.command == "promote":
            promote(repository, arguments.version, triton, arguments.beside)
            text = f"version {arguments.version} of {repository} is {served}"
        elif arguments.command == "rollback":
            text = f"version {rollback(repository, triton)} of {repository} is {served}"
        else:
            text = f"deleted versions: {', '.join(map(str, prune(repository, arguments.keep, triton))) or 'none'}"
    except RepositoryError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"error: {repository} cannot be read or changed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(text)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
