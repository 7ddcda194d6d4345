"""Detection figures of whole images: COCO mAP by pycocotools, the best F1 at IoU 0.33, and an operating point.

Knows no torch: the service is judged by the same functions as the checkpoint.
"""

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from export.contract.boxes import Detections, iou_matrix

F1_IOU = 0.33  # the overlap at which DeepPCB's authors count a defect as found
MAX_DETECTIONS = 200


@dataclass(frozen=True)
class Truth:
    """The defects of one image: boxes_xyxy (N, 4) in pixels, class_ids (N,)."""

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """map50 and map50_95 in 0..1 and AP@0.5 by class; best F1 at IoU 0.33 over all classes.

    Judged are the boxes that are given, as a rule the best MAX_DETECTIONS of a picture over all classes together, from
    a score of 0.01 on and behind NMS at 0.3; COCO's figures take the best 100 of each class.
    The AP of a class that no picture shows is not a number, and no part of the means, which are none where no class
    is shown.
    `score_threshold` is the operating point: where F2 is best, since an escape costs a line more than a false call.
    """

    map50: float
    map50_95: float
    ap50: dict[str, float]
    best_f1: float
    score_threshold: float

    def as_json(self) -> dict[str, object]:
        """Rounded for a report."""
        return {
            "map50": _rounded(self.map50),
            "map50_95": _rounded(self.map50_95),
            "ap50": {name: _rounded(value) for name, value in self.ap50.items()},
            "best_f1_iou33": round(self.best_f1, 4),
            "score_threshold": round(self.score_threshold, 4),
        }


def evaluate_detections(truths: Sequence[Truth], found: Sequence[Detections], class_names: Sequence[str]) -> Figures:
    """Judges the detections of each image against its truth.

    Raises:
        ValueError: the two sequences differ in length.
    """
    if len(truths) != len(found):
        raise ValueError(f"{len(found)} lists of detections for {len(truths)} images")
    precision = _coco_precision(truths, found, len(class_names))  # (T, R, K)
    by_class = [_mean(precision[:, :, index]) for index in range(len(class_names))]
    ap50 = [_mean(precision[:1, :, index]) for index in range(len(class_names))]
    f1, _ = best_f_score(truths, found, 1)
    _, threshold = best_f_score(truths, found, 2)
    return Figures(
        map50=_mean(np.array(ap50)),
        map50_95=_mean(np.array(by_class)),
        ap50=dict(zip(class_names, ap50, strict=True)),
        best_f1=f1,
        score_threshold=threshold,
    )


def right_boxes(truth: Truth, found: Detections) -> NDArray[np.bool_]:
    """Which boxes (N,) find a defect of their class, IoU 0.33, that no better box has found."""
    free = np.ones(len(truth.class_ids), dtype=bool)
    right = np.zeros(len(found), dtype=bool)
    same_class = found.class_ids[:, None] == truth.class_ids
    overlaps = np.where(same_class, iou_matrix(found.boxes_xyxy, truth.boxes_xyxy), -1.0)  # (N, M)
    for index in np.argsort(-found.scores, kind="stable"):
        overlap = np.where(free, overlaps[index], -1.0)
        if len(overlap) and overlap.max() >= F1_IOU:
            right[index] = True
            free[overlap.argmax()] = False
    return right


def best_f_score(truths: Sequence[Truth], found: Sequence[Detections], beta: float) -> tuple[float, float]:
    """The highest F-beta over all score thresholds and where it lies; found means IoU 0.33 and the right class."""
    scores: list[NDArray[np.float32]] = []
    hits: list[NDArray[np.bool_]] = []
    for truth, detections in zip(truths, found, strict=True):
        scores.append(detections.scores)
        hits.append(right_boxes(truth, detections))
    all_scores = np.concatenate(scores) if scores else np.zeros(0, np.float32)
    total = sum(len(truth.class_ids) for truth in truths)
    if not len(all_scores) or not total:
        return 0.0, 1.0
    order = np.argsort(-all_scores, kind="stable")
    true_positives = np.cumsum(np.concatenate(hits)[order])
    f_score = (1 + beta**2) * true_positives / (np.arange(1, len(order) + 1) + beta**2 * total)
    best = int(f_score.argmax())
    return float(f_score[best]), float(all_scores[order][best])


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]  # -1 or NaN: no picture shows the class
    return float(known.mean()) if known.size else float("nan")


def _coco_precision(truths: Sequence[Truth], found: Sequence[Detections], num_classes: int) -> NDArray[np.float64]:
    ids = iter(range(1, 1 + sum(len(truth.class_ids) for truth in truths)))
    truth_set = COCO()
    truth_set.dataset = {
        "images": [{"id": index} for index in range(len(truths))],
        "categories": [{"id": index} for index in range(num_classes)],
        "annotations": [
            {"id": next(ids), "image_id": index, "category_id": int(class_id), "bbox": bbox, "area": bbox[2] * bbox[3]}
            | {"iscrowd": 0}
            for index, truth in enumerate(truths)
            for class_id, bbox in zip(truth.class_ids, _xywh(truth.boxes_xyxy), strict=True)
        ],
    }
    results = [
        {"image_id": index, "category_id": int(class_id), "bbox": bbox, "score": float(score)}
        for index, detections in enumerate(found)
        for class_id, bbox, score in zip(
            detections.class_ids, _xywh(detections.boxes_xyxy), detections.scores, strict=True
        )
    ]
    if not results:
        shown = {int(class_id) for truth in truths for class_id in truth.class_ids}
        nothing = np.array([0.0 if index in shown else -1.0 for index in range(num_classes)])
        return np.broadcast_to(nothing, (10, 101, num_classes))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to stdout, which carries our JSON
        truth_set.createIndex()
        judge = COCOeval(truth_set, truth_set.loadRes(results), "bbox")
        judge.params.maxDets = [1, 10, MAX_DETECTIONS]
        judge.evaluate()
        judge.accumulate()
    precision: NDArray[np.float64] = judge.eval["precision"][:, :, :, 0, 2]  # all areas, most detections
    return precision


def _xywh(boxes_xyxy: NDArray[np.float32]) -> list[list[float]]:
    boxes = boxes_xyxy.astype(np.float64)
    return [[float(x1), float(y1), float(x2 - x1), float(y2 - y1)] for x1, y1, x2, y2 in boxes]
