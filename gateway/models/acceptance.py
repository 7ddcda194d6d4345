"""Which of the boxes found count: large enough for their class, and with their centre where one was asked to look."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections
from gateway.request.regions import Polygon, inside, touched


@dataclass(frozen=True)
class Acceptance:
    """`minimum_sizes_px` has one entry for each prompt; no `regions` mean the whole image."""

    minimum_sizes_px: Sequence[float]  # of a box's shorter side
    regions: Sequence[Polygon] = ()
    excluded_regions: Sequence[Polygon] = ()

    def tiles(self, origins: NDArray[np.int64], tile: int, resolution_wh: tuple[int, int]) -> NDArray[np.int64]:
        """Those of an image's tiles at origins (T, 2) that can show a box which counts."""
        return origins[touched(origins, tile, resolution_wh, self.regions)] if self.regions else origins

    def of(self, found: Detections) -> Detections:
        """The boxes that count, in their order."""
        sizes_wh = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        minimum = np.asarray(self.minimum_sizes_px, dtype=np.float32)
        counts = sizes_wh.min(axis=1, initial=np.inf) >= minimum[found.class_ids]
        centres = (found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2
        if self.regions:
            counts &= inside(centres, self.regions)
        if self.excluded_regions:
            counts &= ~inside(centres, self.excluded_regions)
        return found.take(counts)
