"""A training crop: pixels and what they show; knows nothing of how it was drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Crop:
    """image (S, S, 3) RGB uint8, boxes_xyxy (N, 4) in its pixels, class_ids (N,), sentences by box.

    `sparse` are sentences that hold somewhere in the crop: then its boxes are not complete.
    """

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    descriptions: tuple[tuple[str, ...], ...]
    sparse: tuple[str, ...] = ()
