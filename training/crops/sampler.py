"""Training crops: pieces of pictures, turned, scaled, with defects drawn in and re-thresholded; boxes kept right.

Drawing and re-thresholding are for binarised line-scan boards only; a picture tells by its own gray levels.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD
from training.config import CropConfig
from training.crops.camera import CameraJitter
from training.crops.crop import Crop
from training.crops.drawn_defects import draw_defect
from training.crops.paste import Paster
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.images import ImageStore
from training.data.outline import Polygon, cut, largest, trace

BINARY_SHARE = 0.97  # of a binarised picture's pixels that are nearly black or nearly white
# Opens and shorts find a place half as often as the others, and are drawn twice as often.
DRAWN_SHARES = np.array([2 if defect.id in {"open", "short"} else 1 for defect in BARE_BOARD]) / (len(BARE_BOARD) + 2)


def is_binarised(image: NDArray[np.uint8]) -> bool:
    """Whether a gray picture (H, W) is black and white."""
    return image.ndim == 2 and float(((image < 48) | (image > 207)).mean()) > BINARY_SHARE


class _Pictures:
    """What crops are cut from: samples, the boxes in them, and defect-free boards."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.templates = [sample.template for sample in samples if sample.template is not None]
        self.templates += [s.path for s in samples if not len(s.class_ids) and not s.image_descriptions]
        self.defects = [(index, row) for index, sample in enumerate(samples) for row in range(len(sample.class_ids))]


class CropSampler:
    """Draws crops from a dataset, and a share `ratio` of them from the samples `replayed`, if any.

    The class_ids of both are indices of the dataset's categories. The same generator state gives the same crops.

    Raises:
        DatasetError: there are no pictures of a kind that a share asks for.
    """

    def __init__(
        self, dataset: Dataset, config: CropConfig, replayed: Sequence[Sample] = (), ratio: float = 0.0
    ) -> None:
        if ratio and not replayed:
            raise DatasetError("the replay ratio is above 0 but there are no pictures to replay; set it to 0")
        self.learned, self.replayed, self.ratio = _Pictures(dataset.samples), _Pictures(replayed), ratio
        self.config = config
        self.store = ImageStore(config.cache_mb * 2**20)
        if config.template_share and not self.learned.templates and not self.replayed.templates:
            raise DatasetError("crops.template_share is above 0 but no board has a defect-free template; set it to 0")
        everything = Dataset(dataset.categories, (*dataset.samples, *replayed))
        self.paster = None if config.paste is None else Paster(everything, config.paste, self.store)
        self.camera = None if config.camera is None else CameraJitter(config.camera)
        # Drawn defects are bare-board ones; a dataset may hold some of them, in any order.
        ids = [category.id for category in dataset.categories]
        self.drawable = {
            index: (ids.index(defect.id), share)
            for index, (defect, share) in enumerate(zip(BARE_BOARD, DRAWN_SHARES, strict=True))
            if defect.id in ids
        }

    def draw(self, size: int, mosaic: bool, rng: np.random.Generator) -> Crop:
        """One crop of `size` pixels, or a 2 x 2 mosaic of half that size, which shows more boards at once."""
        if not mosaic:
            return self._cut(size, self.config.drawn_defects, rng)
        half = size // 2
        corners = [(0, 0), (half, 0), (0, half), (half, half)]
        parts = [self._cut(half, self.config.drawn_defects / len(corners), rng) for _ in corners]
        image = np.zeros((size, size, 3), dtype=np.uint8)
        for (x, y), part in zip(corners, parts, strict=True):
            image[y : y + half, x : x + half] = part.image
        boxes = [part.boxes_xyxy + np.array([*c, *c], np.float32) for c, part in zip(corners, parts, strict=True)]
        return Crop(
            image,
            np.concatenate(boxes),
            np.concatenate([part.class_ids for part in parts]),
            tuple(texts for part in parts for texts in part.descriptions),
            tuple(
                outline + np.array(corner, np.float32)
                for corner, part in zip(corners, parts, strict=True)
                for outline in part.outlines
            ),
            tuple(dict.fromkeys(text for part in parts for text in part.sparse)),
        )

    def _cut(self, size: int, drawn_defects: float, rng: np.random.Generator) -> Crop:
        """A piece of a picture with its own defects, or of a defect-free board, and some drawn into it."""
        pictures = self.replayed if self.ratio and rng.random() < self.ratio else self.learned
        if rng.random() < self.config.template_share and pictures.templates:
            path = pictures.templates[int(rng.integers(len(pictures.templates)))]
            image = self.store.read(path)
            height, width = image.shape[:2]
            piece, _ = self._warp(image, rng.uniform(0, 1, 2) * (width, height), size, rng)
            crop = Crop(piece, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
        else:
            sample, centre = self._aim(pictures, size, rng)
            image = self.store.read(sample.path)
            if sample.image_descriptions:  # somewhere in the picture, so all of it must be in the crop
                piece, matrix = self._fit(image, size)
            else:
                piece, matrix = self._warp(image, centre, size, rng)
            crop = _move_boxes(sample, piece, matrix, size, self.config.min_visible)
        if is_binarised(image):
            crop = self._draw_into(crop, int(rng.poisson(drawn_defects)), rng)
            crop = replace(crop, image=self._degrade(crop.image, rng))
        crop = replace(crop, image=_as_rgb(crop.image))
        if image.ndim == 3 and self.paster is not None and not crop.sparse:
            crop = self.paster(crop, rng)
        if image.ndim == 3 and self.camera is not None:
            crop = replace(crop, image=self.camera(crop.image, rng))
        return crop

    def _warp(
        self, image: NDArray[np.uint8], centre: NDArray[np.float64], size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The piece around `centre`, turned, mirrored, scaled, and the matrix (2, 3) that took it there."""
        height, width = image.shape[:2]
        margin = np.minimum(size / 2, (width / 2, height / 2))
        centre = np.clip(centre, margin, np.array([width, height]) - margin)
        scale = self.config.magnification * np.exp(rng.uniform(-1, 1) * np.log(self.config.scale_jitter))
        stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(self.config.aspect_jitter))
        turn = np.diag([scale * stretch, scale / stretch])
        if rng.random() < 0.5:
            turn = turn @ np.array([[-1, 0], [0, 1]])
        for _ in range(int(rng.integers(4))):
            turn = turn @ np.array([[0, -1], [1, 0]])
        return _apply(image, turn, size / 2 - turn @ centre, size)

    def _fit(self, image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The whole picture, scaled to fit."""
        scale = size / max(image.shape[:2])
        return _apply(image, np.diag([scale, scale]), np.zeros(2), size)

    def _aim(self, pictures: _Pictures, size: int, rng: np.random.Generator) -> tuple[Sample, NDArray[np.float64]]:
        """A sample and the pixel to centre a crop on: near a defect mostly, anywhere otherwise."""
        if pictures.defects and rng.random() < self.config.near_defect:
            index, row = pictures.defects[int(rng.integers(len(pictures.defects)))]
            x1, y1, x2, y2 = pictures.samples[index].boxes_xyxy[row]
            return pictures.samples[index], np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + rng.uniform(-0.4, 0.4, 2) * size
        sample = pictures.samples[int(rng.integers(len(pictures.samples)))]
        return sample, rng.uniform(0, 1, 2) * sample.resolution_wh

    def _draw_into(self, crop: Crop, count: int, rng: np.random.Generator) -> Crop:
        if not self.drawable:
            return crop
        boxes, classes, descriptions, outlines = crop.boxes_xyxy, crop.class_ids, crop.descriptions, crop.outlines
        shares = np.array([share for _, share in self.drawable.values()])
        for kind in rng.choice(list(self.drawable), count, p=shares / shares.sum()):
            before = crop.image.copy()
            box = draw_defect(crop.image, int(kind), boxes, rng)
            if box is not None:
                boxes = np.concatenate([boxes, box[None]])
                classes = np.append(classes, self.drawable[int(kind)][0])
                descriptions = (*descriptions, ())
                outlines = (*outlines, largest(trace((crop.image != before).astype(np.uint8))))
        return replace(crop, boxes_xyxy=boxes, class_ids=classes, descriptions=descriptions, outlines=outlines)

    def _degrade(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Other line-scan cameras: thicker or thinner copper by a new threshold, other gray levels, sensor noise."""
        if rng.random() < self.config.threshold_jitter:
            blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 1.6)))
            image = np.where(blurred > rng.uniform(70, 185), np.uint8(255), np.uint8(0))
        if rng.random() < self.config.level_jitter:
            dark, light = rng.uniform(0, 70), rng.uniform(170, 255)
            noise = rng.normal(0, rng.uniform(0, 12), image.shape)
            levels = dark + image.astype(np.float32) * ((light - dark) / 255) + noise
            image = np.clip(levels, 0, 255).astype(np.uint8)
        return image


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _apply(
    image: NDArray[np.uint8], linear: NDArray[np.float64], offset: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    # warpAffine places pixel centres on integers; the boxes' coordinates are pixel edges.
    shift = offset + linear @ np.array([0.5, 0.5]) - 0.5
    flags = cv2.INTER_LINEAR if abs(np.linalg.det(linear)) > 0.5 else cv2.INTER_AREA
    piece = cv2.warpAffine(
        image, np.column_stack([linear, shift]), (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return piece.astype(np.uint8, copy=False), np.column_stack([linear, offset])


def _move_boxes(
    sample: Sample, piece: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, min_visible: float
) -> Crop:
    corners = sample.boxes_xyxy.reshape(-1, 2, 2).astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    inside = np.clip(boxes, 0, size)
    visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = np.flatnonzero(visible >= min_visible)
    return Crop(
        piece,
        inside[keep].astype(np.float32),
        sample.class_ids[keep],
        tuple(sample.descriptions[index] for index in keep),
        tuple(_move_outline(sample.polygons[index], matrix, size) for index in keep),
        sample.image_descriptions,
    )


def _move_outline(pieces: Sequence[Polygon], matrix: NDArray[np.float64], size: int) -> Polygon:
    """The largest piece in the pixels of a crop; it stays within the crop."""
    moved = largest(pieces) @ matrix[:, :2].T + matrix[:, 2]
    return cut(moved.astype(np.float32), size)
