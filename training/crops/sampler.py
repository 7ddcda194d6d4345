"""Training crops: pieces of pictures, turned, scaled, re-thresholded and with defects drawn in; boxes kept right.

Drawing and re-thresholding are for binarised line-scan boards only; a picture tells by its own gray levels. Both are
done in the picture's own pixels, before a piece is turned, scaled and compressed: what is drawn has the edges that
everything else has, or the network would learn to find sharp edges.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
SHRUNK_BELOW = 0.7  # scale: warpAffine takes single pixels, so what becomes smaller is averaged before
MARGIN = 2  # pixels around what a crop shows, of which its border is interpolated
JPEG_QUALITY = (80, 96)  # of binarised pieces, drawn into or not


def is_binarised(image: NDArray[np.uint8]) -> bool:
    """Whether a gray picture (H, W) is black and white."""
    return image.ndim == 2 and float(((image < 48) | (image > 207)).mean()) > BINARY_SHARE


class _Pictures:
    """What crops are cut from: samples, the boxes in them, and defect-free boards."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        # Pictures without a defect, and the boxes of those that another picture of the same board shows.
        self.templates = [(sample.template, sample.boxes_xyxy) for sample in samples if sample.template is not None]
        self.templates += [(s.path, s.boxes_xyxy) for s in samples if not len(s.class_ids) and not s.image_descriptions]
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
        self.paster = (
            None
            if config.paste is None
            else Paster(everything, config.paste, self.store, flips=config.flips, turns=config.turns)
        )
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
            return self._cut(size, 1.0, rng)
        half = size // 2
        corners = [(0, 0), (half, 0), (0, half), (half, half)]
        parts = [self._cut(half, 1 / len(corners), rng) for _ in corners]
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

    def _cut(self, size: int, share: float, rng: np.random.Generator) -> Crop:
        """A piece of a picture with its own defects, or of a defect-free board, and some drawn into it.

        `share` is that of a whole crop, and so of the mean numbers of what is drawn and laid into it.
        """
        pictures = self.replayed if self.ratio and rng.random() < self.ratio else self.learned
        if rng.random() < self.config.template_share and pictures.templates:
            path, boxes = pictures.templates[int(rng.integers(len(pictures.templates)))]
            image = self.store.read(path)
            sample = _sound(path, image)
            boxes = boxes if rng.random() < self.config.near_defect else boxes[:0]
        else:
            sample, boxes = self._choose(pictures, rng)
            image = self.store.read(sample.path)
        turn = self._draw_turn(image.ndim == 3, rng)
        seen_wh = np.abs(np.linalg.inv(turn)) @ np.array([size, size])  # pixels of the picture
        centre = self._aim(boxes, sample.resolution_wh, seen_wh, rng)
        if sample.image_descriptions:  # somewhere in the picture, so all of it must be in the crop
            turn, offset = np.eye(2) * (size / max(sample.resolution_wh)), np.zeros(2)
        else:
            wh = np.array(sample.resolution_wh)
            margin = np.minimum(seen_wh, wh) / 2
            offset = size / 2 - turn @ np.clip(centre, margin, wh - margin)
        binarised = is_binarised(image)
        if binarised:
            count = int(rng.poisson(self.config.drawn_defects * share))
            image, sample = self._alter(image, sample, turn, offset, size, count, rng)
        piece, matrix = _apply(image, turn, offset, size)
        crop = _move_boxes(sample, piece, matrix, size, self.config.min_visible)
        if binarised:
            crop = replace(crop, image=self._relevel(crop.image, rng))
        else:
            if self.paster is not None and not crop.sparse:
                crop = self.paster(crop, share, rng)
            if self.camera is not None:
                crop = replace(crop, image=self.camera(crop.image, rng))
        return replace(crop, image=_as_rgb(crop.image))

    def _draw_turn(self, coloured: bool, rng: np.random.Generator) -> NDArray[np.float64]:
        """The matrix (2, 2) that turns, mirrors, scales and stretches a picture."""
        middle, jitter = self.config.magnification, self.config.scale_jitter
        low, high = middle / jitter, middle * jitter
        if coloured and self.config.colour_magnification is not None:
            low, high = self.config.colour_magnification
        scale = np.exp(rng.uniform(np.log(low), np.log(high)))
        stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(self.config.aspect_jitter))
        turn = np.diag([scale * stretch, scale / stretch])
        mirrored, quarters = bool(rng.random() < 0.5), int(rng.integers(4))  # drawn whatever is switched on
        if mirrored and self.config.flips:
            turn = turn @ np.array([[-1, 0], [0, 1]])
        for _ in range(quarters if self.config.turns else 0):
            turn = turn @ np.array([[0, -1], [1, 0]])
        return np.asarray(turn, np.float64)

    def _choose(self, pictures: _Pictures, rng: np.random.Generator) -> tuple[Sample, NDArray[np.float32]]:
        """A sample and the boxes (N, 4) to aim at: mostly that of one defect, each as likely as any, else none."""
        if pictures.defects and rng.random() < self.config.near_defect:
            index, row = pictures.defects[int(rng.integers(len(pictures.defects)))]
            return pictures.samples[index], pictures.samples[index].boxes_xyxy[row : row + 1]
        return pictures.samples[int(rng.integers(len(pictures.samples)))], np.zeros((0, 4), np.float32)

    def _aim(
        self,
        boxes_xyxy: NDArray[np.float32],
        resolution_wh: tuple[int, int],
        seen_wh: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """The pixel to centre a crop on: where a box of (N, 4) is within the crop, anywhere where there is none."""
        if not len(boxes_xyxy):
            return rng.uniform(0, 1, 2) * resolution_wh
        x1, y1, x2, y2 = boxes_xyxy[int(rng.integers(len(boxes_xyxy)))].tolist()
        centre: NDArray[np.float64] = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + rng.uniform(-0.4, 0.4, 2) * seen_wh
        return centre

    def _alter(
        self,
        image: NDArray[np.uint8],
        sample: Sample,
        turn: NDArray[np.float64],
        offset: NDArray[np.float64],
        size: int,
        count: int,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], Sample]:
        """The picture with other copper and drawn defects where a crop will show it, and what is known of it then."""
        corners = (np.array([[0, 0], [size, size]]) - offset) @ np.linalg.inv(turn).T
        low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(axis=0)).astype(int), sample.resolution_wh)
        window = self._rethreshold(image[low[1] : high[1], low[0] : high[0]], rng).copy()
        sample = self._draw_into(window, low, sample, count, rng)
        quality = int(rng.integers(*JPEG_QUALITY))
        _, encoded = cv2.imencode(".jpg", window, [cv2.IMWRITE_JPEG_QUALITY, quality])
        altered = image.copy()
        altered[low[1] : high[1], low[0] : high[0]] = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        return altered, sample

    def _draw_into(
        self, window: NDArray[np.uint8], low: NDArray[np.int64], sample: Sample, count: int, rng: np.random.Generator
    ) -> Sample:
        """Draws up to `count` defects into a window of a picture, whose corner is at `low`, in place."""
        if not self.drawable:
            return sample
        shift = np.tile(low, 2).astype(np.float32)
        boxes, classes = sample.boxes_xyxy - shift, sample.class_ids
        descriptions, polygons = sample.descriptions, sample.polygons
        shares = np.array([share for _, share in self.drawable.values()])
        for kind in rng.choice(list(self.drawable), count, p=shares / shares.sum()):
            before = window.copy()
            box = draw_defect(window, int(kind), boxes, rng)
            if box is not None:
                boxes = np.concatenate([boxes, box[None]])
                classes = np.append(classes, self.drawable[int(kind)][0])
                descriptions = (*descriptions, ())
                outlines = trace((window != before).astype(np.uint8))
                polygons = (*polygons, tuple(outline + low.astype(np.float32) for outline in outlines))
        return replace(
            sample, boxes_xyxy=boxes + shift, class_ids=classes, descriptions=descriptions, polygons=polygons
        )

    def _rethreshold(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Thicker or thinner copper, as by another threshold."""
        if rng.random() >= self.config.threshold_jitter:
            return image
        blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 1.6)))
        return np.where(blurred > rng.uniform(70, 185), np.uint8(255), np.uint8(0))

    def _relevel(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Other gray levels and sensor noise."""
        if rng.random() >= self.config.level_jitter:
            return image
        dark, light = rng.uniform(0, 70), rng.uniform(170, 255)
        noise = rng.normal(0, rng.uniform(0, 12), image.shape)
        levels = dark + image.astype(np.float32) * ((light - dark) / 255) + noise
        return np.clip(levels, 0, 255).astype(np.uint8)


def _sound(path: Path, image: NDArray[np.uint8]) -> Sample:
    """A defect-free board."""
    height, width = image.shape[:2]
    return Sample(path, (width, height), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _apply(
    image: NDArray[np.uint8], linear: NDArray[np.float64], offset: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture as a crop of `size` pixels shows it, and the matrix (2, 3) that took it there."""
    height, width = image.shape[:2]
    scale = abs(np.linalg.det(linear)) ** 0.5
    shrunk = np.eye(2)
    if scale < SHRUNK_BELOW:
        wh = np.maximum(np.rint(np.array([width, height]) * scale), 1).astype(int)
        image = cv2.resize(image, wh.tolist(), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        shrunk = np.diag([width, height] / wh)
    warp = linear @ shrunk
    image, corner = _cut_seen(image, warp, offset, size)
    # warpAffine places pixel centres on integers; the boxes' coordinates are pixel edges.
    shift = offset + warp @ (corner + 0.5) - 0.5
    piece = cv2.warpAffine(
        image,
        np.column_stack([warp, shift]),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return piece.astype(np.uint8, copy=False), np.column_stack([linear, offset])


def _cut_seen(
    image: NDArray[np.uint8], linear: NDArray[np.float64], offset: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part of a picture that a crop shows, and its corner (2,): warpAffine takes no side of 32,767 pixels."""
    seen = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - offset) @ np.linalg.inv(linear).T
    wh = np.array(image.shape[1::-1])
    low = np.clip(np.floor(seen.min(axis=0)).astype(np.int64) - MARGIN, 0, wh - 1)
    high = np.clip(np.ceil(seen.max(axis=0)).astype(np.int64) + MARGIN, low + 1, wh)
    return image[low[1] : high[1], low[0] : high[0]], low


def _move_boxes(
    sample: Sample, piece: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, min_visible: float
) -> Crop:
    corners = sample.boxes_xyxy.reshape(-1, 2, 2).astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    inside = np.clip(boxes, 0, size)
    most = np.minimum(boxes[:, 2:] - boxes[:, :2], size)  # of a box larger than a crop none shows more
    visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / np.prod(most, axis=1)
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
