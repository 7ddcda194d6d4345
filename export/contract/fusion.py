"""Duplicates made one, by choice: suppressed (NMS), lessened in score (soft-NMS) or averaged (weighted box fusion).

All of them know one image's boxes only, xyxy in pixels; numpy only.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections, iou_matrix, nms
from export.contract.tiles import MAX_CANDIDATES, best_candidates

Merging = Literal["nms", "soft_nms", "wbf"]
SIGMA = 0.5  # of soft-NMS, as in its paper
MAX_SOFT_CANDIDATES = 4_000  # of soft-NMS and fusion, whose time grows with the square of their number


def merge_boxes(
    found: Detections,
    merging: Merging,
    *,
    iou_threshold: float,
    max_detections: int,
    class_agnostic: bool = False,
) -> Detections:
    """One list of boxes, best first, within each class or among all; the candidates compared are bounded in number.

    `iou_threshold` is the overlap from which boxes are one; soft-NMS knows none.
    """
    if merging == "nms":
        found = best_candidates(found, MAX_CANDIDATES)
        return nms(found, iou_threshold, max_detections, class_agnostic=class_agnostic)
    found = best_candidates(found, MAX_SOFT_CANDIDATES)
    if merging == "soft_nms":
        return soft_nms(found, max_detections, class_agnostic=class_agnostic)
    return weighted_box_fusion(found, iou_threshold, max_detections, class_agnostic=class_agnostic)


def soft_nms(
    found: Detections, max_detections: int, *, sigma: float = SIGMA, class_agnostic: bool = False
) -> Detections:
    """Gaussian soft-NMS: a box next to a better one keeps exp(-IoU^2 / sigma) of its score instead of being dropped.

    Bodla, Singh, Chellappa, Davis, 'Soft-NMS: improving object detection with one line of code', ICCV 2017, eq. 5.
    """
    scores = found.scores.copy()
    classes = found.class_ids * (not class_agnostic)
    waiting = np.ones(len(found), dtype=bool)
    keep: list[int] = []
    while len(keep) < min(len(found), max_detections):
        best = int(np.where(waiting, scores, -1.0).argmax())
        waiting[best] = False
        keep.append(best)
        others = np.flatnonzero(waiting & (classes == classes[best]))
        overlap = iou_matrix(found.boxes_xyxy[[best]], found.boxes_xyxy[others])[0]
        scores[others] *= np.exp(-(overlap**2) / np.float32(sigma))
    kept = np.array(keep, dtype=np.int64)
    return Detections(found.boxes_xyxy[kept], scores[kept], found.class_ids[kept])


def weighted_box_fusion(
    found: Detections, iou_threshold: float, max_detections: int, *, class_agnostic: bool = False
) -> Detections:
    """Boxes that overlap by more than `iou_threshold` become their mean, weighted by score; it has the best's score.

    Solovyev, Wang, Gabruseva, 'Weighted boxes fusion', Image and Vision Computing 107, 2021, section 3. There the score
    is a mean over several models; here one model sees a defect several times, and how often says nothing about it.
    """
    order = np.argsort(-found.scores, kind="stable")
    clusters = np.zeros(0, dtype=np.int64)  # rows of the best box of each
    fused = np.zeros((len(order), 4), dtype=np.float32)
    weights = np.zeros(len(order), dtype=np.float32)
    classes = found.class_ids * (not class_agnostic)
    for row in order:
        box, score = found.boxes_xyxy[row], found.scores[row]
        own = np.flatnonzero(classes[clusters] == classes[row])
        overlap = iou_matrix(box[None], fused[own])[0]
        if len(own) and overlap.max() > iou_threshold:
            place = own[overlap.argmax()]
            weights[place] += score
            fused[place] += (box - fused[place]) * _share(score, weights[place])
        else:
            place = len(clusters)
            clusters = np.append(clusters, row)
            fused[place], weights[place] = box, score
    count = min(len(clusters), max_detections)
    best = clusters[:count]
    return Detections(fused[:count], found.scores[best], found.class_ids[best])


def _share(score: np.float32, total: np.float32) -> NDArray[np.float32] | np.float32:
    """What a box adds to a running weighted mean; nothing where all scores are 0."""
    return score / total if total > 0 else np.float32(0)
