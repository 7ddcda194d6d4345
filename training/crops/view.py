"""What the generative reading is shown and asked for a defect's outline: a region in a view of its own."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.locations import quantise, quantise_outline
from export.contract.tiles import cut_tiles, view_of
from training.crops.crop import Crop
from training.data.images import magnified
from training.data.outline import arrange, simplify

REGION_JITTER = 0.08  # of a box's sides: the regions that are asked about were found, not labelled


@dataclass(frozen=True)
class View:
    """image (S, S, 3) RGB uint8, a region (4,) in bins of it, and the outline (M, 2) in bins of the region."""

    image: NDArray[np.uint8]
    region: NDArray[np.int64]
    outline: NDArray[np.int64]


def draw_view(crop: Crop, rng: random.Random) -> View | None:
    """A view of about where a defect of a crop is; None where no outline is known."""
    known = [index for index, outline in enumerate(crop.outlines) if len(outline)]
    if not known:
        return None
    index = rng.choice(known)
    outline, box = simplify(crop.outlines[index]), crop.boxes_xyxy[index]
    if not len(outline):
        return None
    reach = REGION_JITTER * np.tile(box[2:] - box[:2], 2)
    asked = box + reach * [rng.uniform(-1, 1) for _ in range(4)]
    size = len(crop.image)
    image, origin, side = show(crop.image, asked, size)
    region = quantise((asked - np.tile(origin, 2)) / side, (1, 1))
    return View(image, region, quantise_outline((arrange(outline, box[:2]) - origin) / side, region))


def show(
    image: NDArray[np.uint8], region_xyxy: NDArray[np.float32], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """The view (size, size, 3) of a region (4,) of an RGB image (H, W, 3), its origin (2,) and side in the image."""
    x, y, side = view_of(region_xyxy, (image.shape[1], image.shape[0]))
    origin = np.array([x, y])
    return magnified(cut_tiles(image, origin[None], side), size)[0], origin, side
