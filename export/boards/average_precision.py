"""mAP@0.5 of detections on labelled pictures, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from export.boards.labelled import Boards
from export.contract.boxes import Detections

MAX_DETECTIONS = 200


def average_precision(boards: Boards, found: Sequence[Detections]) -> float:
    """The mean over the classes of AP at IoU 0.5, in 0..1; a class of which there is no defect does not count."""
    truths = [
        {"image_id": index, "category_id": int(class_id), "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for index, board in enumerate(boards.boards)
        for class_id, bbox in zip(board.class_ids, _xywh(board.boxes_xyxy), strict=True)
    ]
    results = [
        {"image_id": index, "category_id": int(class_id), "bbox": bbox, "score": float(score)}
        for index, detections in enumerate(found)
        for class_id, bbox, score in zip(
            detections.class_ids, _xywh(detections.boxes_xyxy), detections.scores, strict=True
        )
    ]
    if not results or not truths:
        return 0.0
    known = COCO()
    known.dataset = {
        "images": [{"id": index} for index in range(len(boards.boards))],
        "categories": [{"id": index} for index in range(len(boards.class_names))],
        "annotations": [{"id": number, **truth} for number, truth in enumerate(truths, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks on stdout
        known.createIndex()
        judge = COCOeval(known, known.loadRes(results), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.params.maxDets = [1, 10, MAX_DETECTIONS]
        judge.evaluate()
        judge.accumulate()
    precision: NDArray[np.float64] = judge.eval["precision"][0, :, :, 0, 2]  # (R, K) of all areas, most detections
    return float(precision[:, (precision > -1).any(axis=0)].mean())


def _xywh(boxes_xyxy: NDArray[np.float32]) -> list[list[float]]:
    return [[float(x1), float(y1), float(x2) - float(x1), float(y2) - float(y1)] for x1, y1, x2, y2 in boxes_xyxy]
