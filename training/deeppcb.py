"""Reads DeepPCB: binarised line-scan boards, `images/STEM.jpg`, `annotations/STEM.txt`, `train.txt`, `val.txt`,
and for training boards the same board without defects, `templates/STEM.jpg`.

An annotation line is `x1 y1 x2 y2 type`, pixels, types 1..6 in the order of contract.defects.BARE_BOARD
(Tang et al., On-line PCB Defect Detector On A New PCB Defect Dataset, 2019).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD

GROUP_LENGTH = 5  # the first digits of a stem name the board


class DatasetError(ValueError):
    """A dataset cannot be read as it stands."""


@dataclass(frozen=True)
class Board:
    """One image and its defects: boxes_xyxy (N, 4) in pixels, class_ids (N,) as indices of BARE_BOARD."""

    stem: str
    path: Path
    template: Path | None  # the same board without defects
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    @property
    def group(self) -> str:
        """The board that the image was cut from; images of a group look alike."""
        return self.stem[:GROUP_LENGTH]


def read_split(root: Path, split: str) -> list[Board]:
    """The boards that `root/split.txt` lists.

    Raises:
        DatasetError: names every missing file and every faulty annotation line at once.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise DatasetError(f"{listing} does not exist; expected a DeepPCB folder with images/, annotations/ and it")
    faults: list[str] = []
    boards = [_read_board(root, stem, faults) for stem in listing.read_text().split()]
    if faults:
        raise DatasetError(f"{len(faults)} faults in {root}:\n" + "\n".join(faults))
    return boards


def _read_board(root: Path, stem: str, faults: list[str]) -> Board:
    path = root / "images" / f"{stem}.jpg"
    annotation = root / "annotations" / f"{stem}.txt"
    faults.extend(f"{file} is missing" for file in (path, annotation) if not file.is_file())
    rows: list[list[int]] = []
    for number, line in enumerate(annotation.read_text().splitlines() if annotation.is_file() else [], start=1):
        fields = line.split()
        valid = len(fields) == 5 and all(field.isdigit() for field in fields)
        row = [int(field) for field in fields] if valid else []
        if not valid or not (row[0] < row[2] and row[1] < row[3] and 1 <= row[4] <= len(BARE_BOARD)):
            faults.append(
                f"{annotation}:{number}: {line!r}, expected 'x1 y1 x2 y2 type' with type 1..{len(BARE_BOARD)}"
            )
        else:
            rows.append(row)
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    template = root / "templates" / path.name
    return Board(stem, path, template if template.is_file() else None, table[:, :4].astype(np.float32), table[:, 4] - 1)
