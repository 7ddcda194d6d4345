"""How far apart two answers to the same inputs are: values, directions, boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections, iou_matrix
from export.contract.tensors import TensorSpec

Outputs = dict[str, NDArray[Any]]


def rows(tensors: Sequence[TensorSpec], outputs: Outputs) -> NDArray[np.float32]:
    """All outputs of an item side by side: (B, rows, values)."""
    arrays = [outputs[tensor.name].astype(np.float32) for tensor in tensors]
    return np.concatenate([array if array.ndim == 3 else array[:, None] for array in arrays], axis=2)


def align(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row of `got` nearest to each row of `wanted`: equal scores may leave the top-K in another order."""
    return np.stack(
        [b[np.abs(a[:, None] - b[None]).max(axis=2).argmin(axis=1)] for a, b in zip(wanted, got, strict=True)]
    )


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of the angle between two arrays taken as vectors."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(np.dot(x, y)) / max(float(np.linalg.norm(x)) * float(np.linalg.norm(y)), 1e-30)


def agreement(wanted: Detections, got: Detections, score_error: float, score_threshold: float) -> float:
    """Share of the detections on either side that the other side has too: IoU 0.9, score within `score_error`.

    A detection so near `score_threshold` that it may fall on either side of it counts as found.
    """
    if not len(wanted) and not len(got):
        return 1.0
    same = (
        (iou_matrix(wanted.boxes_xyxy, got.boxes_xyxy) >= 0.9)
        & (wanted.class_ids[:, None] == got.class_ids[None])
        & (np.abs(wanted.scores[:, None] - got.scores[None]) <= score_error)
    )
    sides: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]] = (
        (same.any(axis=1), wanted.scores),
        (same.any(axis=0), got.scores),
    )
    agreed = [
        bool(hit) or score < score_threshold + score_error
        for hits, scores in sides
        for hit, score in zip(hits, scores, strict=True)
    ]
    return float(np.mean(agreed))
