"""Boxes as arrays: overlap and non-maximum suppression, xyxy in pixels, numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 256  # boxes that are all compared with each other in one step: faster, but their number counts squared


@dataclass(frozen=True)
class Detections:
    """Scored boxes of one image, best first: boxes_xyxy (N, 4) in pixels, scores (N,), class_ids (N,)."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]  # index of the prompt that the box answers

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, keep: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Detections":
        """The chosen rows, in the order given."""
        return Detections(self.boxes_xyxy[keep], self.scores[keep], self.class_ids[keep])


def concatenate(parts: Sequence[Detections]) -> Detections:
    """All rows of all parts, in the order given; not sorted by score."""
    return Detections(
        np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes_xyxy for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.class_ids for part in parts)]),
    )


def iou_matrix(a_xyxy: NDArray[np.float32], b_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every box of a (N, 4) with every box of b (M, 4) -> (N, M)."""
    # Coordinate by coordinate: numpy goes through a last axis of 2 several times slower than through whole matrices.
    ax1, ay1, ax2, ay2 = a_xyxy.T[..., None]  # (N, 1) each
    bx1, by1, bx2, by2 = b_xyxy.T  # (M,) each
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0)  # (N, M)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0)
    intersection = width * height
    area_a = np.maximum(ax2 - ax1, 0) * np.maximum(ay2 - ay1, 0)
    area_b = np.maximum(bx2 - bx1, 0) * np.maximum(by2 - by1, 0)
    union = area_a + area_b - intersection
    overlap: NDArray[np.float32] = intersection / np.maximum(union, np.finfo(np.float32).tiny)
    return overlap


def nms(
    detections: Detections, iou_threshold: float, max_detections: int, *, class_agnostic: bool = False
) -> Detections:
    """Greedy non-maximum suppression within each class, or among all, best first.

    A box is dropped when it overlaps a better one of its class by more than `iou_threshold`.
    Equal scores keep the order in which they came, so the result does not depend on the sort.
    """
    order = np.argsort(-detections.scores, kind="stable")
    boxes = detections.boxes_xyxy[order]
    classes = detections.class_ids[order] * (not class_agnostic)
    alive = np.ones(len(order), dtype=bool)
    unlike = None
    if len(order) <= AT_ONCE:
        unlike = ~((iou_matrix(boxes, boxes) > iou_threshold) & (classes[:, None] == classes[None]))
    keep: list[int] = []
    for index in range(len(order)):
        if not alive[index]:
            continue
        keep.append(index)
        if len(keep) == max_detections:
            break
        if unlike is not None:
            alive &= unlike[index]  # of those behind it; those before it are decided
            continue
        later = np.flatnonzero(alive[index + 1 :] & (classes[index + 1 :] == classes[index])) + index + 1
        if len(later):
            overlap = iou_matrix(boxes[index : index + 1], boxes[later])[0]
            alive[later[overlap > iou_threshold]] = False
    return detections.take(order[np.array(keep, dtype=np.int64)])
