"""Reads DeepPCB: binarised line-scan boards, `images/STEM.jpg`, `annotations/STEM.txt`, `train.txt`, `val.txt`,
and for training boards the same board without defects, `templates/STEM.jpg`.

An annotation line is `x1 y1 x2 y2 type`, pixels, types 1..6 in the order of contract.defects.BARE_BOARD
(Tang et al., On-line PCB Defect Detector On A New PCB Defect Dataset, 2019).
"""

from pathlib import Path

import numpy as np

from export.contract.defects import BARE_BOARD
from training.data.dataset import Dataset, DatasetError, Sample, read_resolution_wh

GROUP_LENGTH = 5  # the first digits of a stem name the board that a picture was cut from


def read_deeppcb(root: Path, split: str) -> Dataset:
    """The boards that `root/split.txt` lists.

    Raises:
        DatasetError: names every missing or unreadable file and every faulty annotation line at once.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise DatasetError(f"{listing} does not exist; expected a DeepPCB folder with images/, annotations/ and it")
    faults: list[str] = []
    samples = [_read_sample(root, stem, faults) for stem in listing.read_text().split()]
    if faults:
        raise DatasetError(f"{len(faults)} faults in {root}:\n" + "\n".join(faults))
    return Dataset(BARE_BOARD, tuple(samples))


def _read_sample(root: Path, stem: str, faults: list[str]) -> Sample:
    path = root / "images" / f"{stem}.jpg"
    annotation = root / "annotations" / f"{stem}.txt"
    resolution_wh = (0, 0)
    try:
        resolution_wh = read_resolution_wh(path)
    except DatasetError as error:
        faults.append(str(error))
    if not annotation.is_file():
        faults.append(f"{annotation} is missing")
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
    return Sample(
        path=path,
        resolution_wh=resolution_wh,
        boxes_xyxy=table[:, :4].astype(np.float32),
        class_ids=table[:, 4] - 1,
        polygons=((),) * len(table),
        descriptions=((),) * len(table),
        group=stem[:GROUP_LENGTH],
        template=template if template.is_file() else None,
    )
