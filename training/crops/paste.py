"""Copy-paste of labelled defects: cut out along their polygons, turned, scaled, and laid on other crops.

For defects that may be anywhere on a board, such as scratches and stains; a bridge or a missing part would make no
sense elsewhere. (Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method, 2021.)
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import PasteConfig
from training.crops.crop import Crop
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.images import ImageStore
from training.data.outline import Polygon, largest, trace

MARGIN = 3  # pixels around a defect, for its soft edge
SOFT = 0.8  # pixels, deviation of the soft edge
SCALE = 1.25  # a pasted defect is scaled by 1/this to this
TRIES = 8


class Paster:
    """Draws donors from a dataset; the same generator state gives the same crops."""

    def __init__(
        self, dataset: Dataset, config: PasteConfig, store: ImageStore, *, flips: bool = True, turns: bool = True
    ) -> None:
        ids = [category.id for category in dataset.categories]
        unknown = sorted(set(config.categories) - set(ids))
        if unknown:
            raise DatasetError(
                f"crops.paste names {', '.join(unknown)}; the sources have {', '.join(ids)}: name some of these, or "
                "set crops.paste to null"
            )
        wanted = {ids.index(category) for category in config.categories}
        self.mean = config.mean
        self.store = store
        self.flips, self.turns = flips, turns
        self.donors = [
            (sample, row)
            for sample in dataset.samples
            for row, class_id in enumerate(sample.class_ids)
            if class_id in wanted and sample.polygons[row]
        ]
        if not self.donors:
            raise DatasetError(
                f"no box of {', '.join(config.categories)} has a polygon to cut out; set crops.paste to null"
            )

    def __call__(self, crop: Crop, share: float, rng: np.random.Generator) -> Crop:
        """The crop, RGB or gray, or `share` of one, with some defects laid upon it, where they touch no other box."""
        image, boxes = crop.image.copy(), crop.boxes_xyxy
        classes, descriptions, outlines = crop.class_ids, crop.descriptions, crop.outlines
        for _ in range(int(rng.poisson(self.mean * share))):
            sample, row = self.donors[int(rng.integers(len(self.donors)))]
            patch, mask = self._cut_out(sample, row, rng)
            if image.ndim == 2:
                patch = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
            laid = _lay(image, patch, mask, boxes, rng)
            if laid is not None:
                box, outline = laid
                boxes = np.concatenate([boxes, box[None]])
                classes = np.append(classes, sample.class_ids[row])
                descriptions = (*descriptions, sample.descriptions[row])
                outlines = (*outlines, outline)
        return replace(
            crop, image=image, boxes_xyxy=boxes, class_ids=classes, descriptions=descriptions, outlines=outlines
        )

    def _cut_out(
        self, sample: Sample, row: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A turned and scaled defect (h, w, 3) RGB and its mask (h, w) 0..1."""
        image = self.store.read(sample.path)
        x1, y1 = np.maximum(np.floor(sample.boxes_xyxy[row, :2]).astype(int) - MARGIN, 0)
        x2, y2 = np.ceil(sample.boxes_xyxy[row, 2:]).astype(int) + MARGIN
        patch = image[y1:y2, x1:x2]
        if patch.ndim == 2:
            patch = np.repeat(patch[..., None], 3, axis=2)
        hard = np.zeros(patch.shape[:2], np.uint8)
        for polygon in sample.polygons[row]:
            cv2.fillPoly(hard, [np.rint(polygon - (x1, y1)).astype(np.int32)], (255,))
        scale = float(np.exp(rng.uniform(-1, 1) * np.log(SCALE)))
        size = (max(1, round(patch.shape[1] * scale)), max(1, round(patch.shape[0] * scale)))
        patch = cv2.resize(patch, size).astype(np.uint8, copy=False)
        mask = cv2.resize(hard, size).astype(np.float32) / 255
        quarters, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)  # drawn whatever is switched on
        if mirrored and self.flips:
            patch, mask = patch[:, ::-1], mask[:, ::-1]
        if self.turns:
            patch, mask = np.rot90(patch, quarters), np.rot90(mask, quarters)
        return patch.astype(np.uint8), mask.astype(np.float32)


def _lay(
    image: NDArray[np.uint8],
    patch: NDArray[np.uint8],
    mask: NDArray[np.float32],
    taken_xyxy: NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], Polygon] | None:
    """Lays a patch somewhere free, in place; its box (4,) and its outline, or None where nothing was free."""
    shown = mask > 0.5
    rows, columns = np.nonzero(shown)
    height, width = mask.shape
    if not len(rows) or height > image.shape[0] or width > image.shape[1]:
        return None
    inner = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    for _ in range(TRIES):
        x, y = int(rng.integers(image.shape[1] - width + 1)), int(rng.integers(image.shape[0] - height + 1))
        box = inner + np.array([x, y, x, y], np.float32)
        if ((taken_xyxy[:, :2] < box[2:]) & (taken_xyxy[:, 2:] > box[:2])).all(axis=1).any():
            continue
        soft = cv2.GaussianBlur(mask, (0, 0), SOFT)
        if image.ndim == 3:
            soft = soft[..., None]
        window = image[y : y + height, x : x + width]
        window[:] = np.rint(window * (1 - soft) + patch * soft).astype(np.uint8)
        return box, largest(trace(shown.astype(np.uint8))) + np.array([x, y], np.float32)
    return None
