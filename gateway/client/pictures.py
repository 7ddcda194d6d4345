"""Which pictures a command line means: files, folders, and patterns that the shell left as they are."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class NoPictureError(ValueError):
    """An argument means no picture; every such argument is named."""


def find_pictures(arguments: Iterable[str]) -> list[Path]:
    """Files as they are given, a folder's pictures by name, a pattern's files; each once, in that order.

    Raises:
        NoPictureError: lists every argument that means none.
    """
    found: dict[Path, None] = {}
    faults = []
    for argument in arguments:
        path = Path(argument)
        if path.is_file():
            meant = [path]
        elif path.is_dir():
            meant = [entry for entry in sorted(path.iterdir()) if is_picture(entry)]
        else:
            names = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - a pattern with any beginning
            meant = [Path(name) for name in names if Path(name).is_file()]
        if not meant:
            faults.append(
                f"{argument} is no file, no folder with {' '.join(sorted(SUFFIXES))}, and no pattern of files"
            )
        found |= dict.fromkeys(meant)
    if faults:
        raise NoPictureError("; ".join(faults))
    return list(found)


def shared_folder(pictures: Iterable[Path]) -> Path:
    """The innermost folder that holds all of them; links to folders are followed.

    Raises:
        ValueError: there is none; a drive of Windows has no folder above it.
    """
    folders = sorted({str(picture.parent.resolve()) for picture in pictures})
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise ValueError(
            f"no folder holds both {folders[0]} and {folders[-1]}, so that annotated pictures have no place; ask about "
            "one drive at a time"
        ) from error


def is_picture(path: Path) -> bool:
    """By its name, which is enough to choose: the gateway looks at the bytes."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
