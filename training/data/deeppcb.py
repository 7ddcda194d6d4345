"""Reads DeepPCB, binarised line-scan boards, as it is published or sorted anew:

    PCBData/trainval.txt, test.txt   lines `group11111/11111/STEM.jpg group11111/11111_not/STEM.txt`: the picture is
                                     STEM_test.jpg there, its template STEM_temp.jpg, and the other its annotations
    train.txt, val.txt               lines `STEM`: images/STEM.jpg, annotations/STEM.txt and, where there is one,
                                     templates/STEM.jpg

A template is the same board without defects. What differs from it within a box is taken for the defect's polygon.
An annotation line is `x1 y1 x2 y2 type`, pixels, types 1..6 in the order of contract.defects.BARE_BOARD
(Tang et al., On-line PCB Defect Detector On A New PCB Defect Dataset, 2019).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD
from training.data.dataset import Dataset, DatasetError, Sample, read_resolution_wh
from training.data.images import read_image
from training.data.outline import Polygon, largest, trace

PUBLISHED = "PCBData"  # folder of the published repository
PUBLISHED_SPLITS = {"train": "trainval", "val": "test"}
GROUP_LENGTH = 5  # the first digits of a stem name the board that a picture was cut from
LEAST_DIFFERENCE = 64  # of 255 gray levels
THINNEST = 3  # pixels: what is thinner is an edge that lies otherwise


@dataclass(frozen=True)
class _Board:
    """The files of a board; the template need not exist."""

    stem: str
    path: Path
    annotation: Path
    template: Path


def read_deeppcb(root: Path, split: str) -> Dataset:
    """The boards that `root/split.txt` lists; of the published repository train is trainval.txt and val is test.txt.

    Raises:
        DatasetError: names every missing or unreadable file and every faulty line at once.
    """
    faults: list[str] = []
    samples = [_read_sample(board, faults) for board in _list_boards(root, split, faults)]
    if faults:
        raise DatasetError(f"{len(faults)} faults in {root}:\n" + "\n".join(faults))
    return Dataset(BARE_BOARD, tuple(samples))


def _list_boards(root: Path, split: str, faults: list[str]) -> Iterator[_Board]:
    """The boards of a list, whose lines tell how the folder is sorted."""
    listing, published = root / f"{split}.txt", root / PUBLISHED / f"{PUBLISHED_SPLITS.get(split, split)}.txt"
    if not listing.is_file() and not published.is_file():
        raise DatasetError(
            f"{listing} does not exist, nor does {published}; expected a DeepPCB folder with images/, annotations/ and "
            f"the one, or the published repository with {PUBLISHED}/ and the other"
        )
    listing = listing if listing.is_file() else published
    folder = listing.parent
    for number, line in enumerate(listing.read_text().splitlines(), start=1):
        fields = line.split()
        if "/" not in line:
            for stem in fields:
                path = folder / "images" / f"{stem}.jpg"
                yield _Board(stem, path, folder / "annotations" / f"{stem}.txt", folder / "templates" / path.name)
        elif len(fields) != 2:
            faults.append(f"{listing}:{number}: {line!r}, expected a picture and its annotations")
        else:
            path, annotation = (folder / field for field in fields)
            tested, template = (path.with_name(f"{path.stem}_{kind}.jpg") for kind in ("test", "temp"))
            yield _Board(path.stem, tested, annotation, template)


def _read_sample(board: _Board, faults: list[str]) -> Sample:
    path, annotation, template = board.path, board.annotation, board.template
    before = len(faults)
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
        valid = len(fields) == 5 and all(field.isascii() and field.isdecimal() for field in fields)
        row = [int(field) for field in fields] if valid else []
        if not valid or not (row[0] < row[2] and row[1] < row[3] and 1 <= row[4] <= len(BARE_BOARD)):
            faults.append(
                f"{annotation}:{number}: {line!r}, expected 'x1 y1 x2 y2 type' with type 1..{len(BARE_BOARD)}"
            )
        elif any(resolution_wh) and (row[2] > resolution_wh[0] or row[3] > resolution_wh[1]):
            faults.append(f"{annotation}:{number}: {line!r} reaches outside the {resolution_wh} pixels of {path}")
        else:
            rows.append(row)
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    boxes_xyxy = table[:, :4].astype(np.float32)
    polygons: tuple[tuple[Polygon, ...], ...] = ((),) * len(table)
    if template.is_file() and len(faults) == before:
        try:
            polygons = _differences(path, template, boxes_xyxy)
        except DatasetError as error:
            faults.append(str(error))
    return Sample(
        path=path,
        resolution_wh=resolution_wh,
        boxes_xyxy=boxes_xyxy,
        class_ids=table[:, 4] - 1,
        polygons=polygons,
        descriptions=((),) * len(table),
        group=board.stem[:GROUP_LENGTH],
        template=template if template.is_file() else None,
    )


def _differences(path: Path, template: Path, boxes_xyxy: NDArray[np.float32]) -> tuple[tuple[Polygon, ...], ...]:
    """The outline of the largest piece in each box (N, 4) that differs from the board without defects, if any."""
    image, flawless = read_image(path), read_image(template)
    if image.shape != flawless.shape:
        raise DatasetError(f"{template} has {flawless.shape[1::-1]} pixels, expected {image.shape[1::-1]} as {path}")
    red, green, blue = cv2.split(cv2.absdiff(image, flawless))
    _, apart = cv2.threshold(cv2.max(cv2.max(red, green), blue), LEAST_DIFFERENCE, 1, cv2.THRESH_BINARY)
    pieces = cv2.morphologyEx(apart, cv2.MORPH_OPEN, np.ones((THINNEST, THINNEST), np.uint8))
    polygons = []
    for x1, y1, x2, y2 in boxes_xyxy.astype(int).tolist():
        piece = largest(trace(pieces[y1:y2, x1:x2].astype(np.uint8)))
        polygons.append((piece + np.array([x1, y1], np.float32),) if len(piece) else ())
    return tuple(polygons)
