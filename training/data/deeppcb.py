"""Reads DeepPCB, binarised line-scan boards, from the files that export.contract.deeppcb lists.

What differs from a board's template within a box is taken for the defect's polygon.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.deeppcb import BoardFiles, list_boards
from export.contract.defects import BARE_BOARD
from training.data.dataset import Dataset, DatasetError, Sample, read_resolution_wh
from training.data.images import read_image
from training.data.outline import Polygon, largest, trace

LEAST_DIFFERENCE = 64  # of 255 gray levels
THINNEST = 3  # pixels: what is thinner is an edge that lies otherwise


def read_deeppcb(root: Path, split: str) -> Dataset:
    """The boards of a split.

    Raises:
        DatasetError: names every missing or unreadable file and every faulty line at once.
    """
    faults: list[str] = []
    try:
        samples = [_read_sample(board, faults) for board in list_boards(root, split, faults)]
    except FileNotFoundError as error:
        raise DatasetError(str(error)) from error
    if faults:
        raise DatasetError(f"{len(faults)} faults in {root}:\n" + "\n".join(faults))
    return Dataset(BARE_BOARD, tuple(samples))


def _read_sample(board: BoardFiles, faults: list[str]) -> Sample:
    path, annotation, template = board.image, board.annotation, board.template
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
        group=board.group,
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
