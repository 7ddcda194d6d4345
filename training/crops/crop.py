"""A training crop: pixels and what they show; knows nothing of how it was drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.outline import Polygon


@dataclass(frozen=True)
class Crop:
    """image (S, S, 3) RGB uint8, boxes_xyxy (N, 4) in its pixels, class_ids (N,), sentences by box.

    `outlines` has the polygon (M, 2) of what is in each box, in the same pixels; an empty one where it is not known.
    `sparse` are sentences that hold somewhere in the crop: then its boxes are not complete.
    """

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    descriptions: tuple[tuple[str, ...], ...]
    outlines: tuple[Polygon, ...]
    sparse: tuple[str, ...] = ()
