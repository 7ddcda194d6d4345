"""Training crops: pieces of boards, turned, scaled, with defects drawn in and re-thresholded; boxes kept right."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD
from training.config import CropConfig
from training.deeppcb import Board, DatasetError
from training.drawn_defects import draw_defect

# Opens and shorts find a place half as often as the others, and are drawn twice as often.
DRAWN_SHARES = np.array([2 if defect.id in {"open", "short"} else 1 for defect in BARE_BOARD]) / (len(BARE_BOARD) + 2)


@dataclass(frozen=True)
class Crop:
    """image (S, S) gray uint8, boxes_xyxy (N, 4) in its pixels, class_ids (N,)."""

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


def read_gray(path: Path) -> NDArray[np.uint8]:
    """An image file as gray (H, W) uint8."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DatasetError(f"{path} is not a readable image")
    return image.astype(np.uint8, copy=False)


class CropSampler:
    """Draws crops from boards held in memory; the same generator state gives the same crops."""

    def __init__(self, boards: list[Board], config: CropConfig) -> None:
        self.boards = boards
        self.config = config
        self.images = [read_gray(board.path) for board in boards]
        self.templates = [read_gray(board.template) for board in boards if board.template is not None]
        if config.template_share and not self.templates:
            raise DatasetError("crops.template_share is above 0 but no board has a defect-free template; set it to 0")
        self.defects = [(index, row) for index, board in enumerate(boards) for row in range(len(board.class_ids))]

    def draw(self, size: int, mosaic: bool, rng: np.random.Generator) -> Crop:
        """One crop of `size` pixels, or a 2 x 2 mosaic of half that size, which shows more defects at once."""
        if not mosaic:
            return self._degrade(self._cut(size, self.config.drawn_defects, rng), rng)
        half = size // 2
        corners = [(0, 0), (half, 0), (0, half), (half, half)]
        parts = [self._cut(half, self.config.drawn_defects / len(corners), rng) for _ in corners]
        image = np.zeros((size, size), dtype=np.uint8)
        for (x, y), part in zip(corners, parts, strict=True):
            image[y : y + half, x : x + half] = part.image
        boxes = [part.boxes_xyxy + np.array([*c, *c], np.float32) for c, part in zip(corners, parts, strict=True)]
        classes = [part.class_ids for part in parts]
        return self._degrade(Crop(image, np.concatenate(boxes), np.concatenate(classes)), rng)

    def _cut(self, size: int, drawn_defects: float, rng: np.random.Generator) -> Crop:
        """A piece of a board with its own defects, or of a defect-free one, and some drawn into it."""
        if rng.random() < self.config.template_share:
            image = self.templates[int(rng.integers(len(self.templates)))]
            height, width = image.shape
            cut, _ = self._warp(image, rng.uniform(0, 1, 2) * (width, height), size, rng)
            crop = Crop(cut, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        else:
            index, centre = self._aim(size, rng)
            board = self.boards[index]
            cut, matrix = self._warp(self.images[index], centre, size, rng)
            crop = Crop(cut, *_move_boxes(board, matrix, size, self.config.min_visible))
        return _draw_into(crop, int(rng.poisson(drawn_defects)), rng)

    def _warp(
        self, image: NDArray[np.uint8], centre: NDArray[np.float64], size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The piece around `centre`, turned, mirrored, scaled, and the matrix (2, 3) that took it there."""
        height, width = image.shape
        margin = np.minimum(size / 2, (width / 2, height / 2))
        centre = np.clip(centre, margin, np.array([width, height]) - margin)
        scale = np.exp(rng.uniform(-1, 1) * np.log(self.config.scale_jitter))
        stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(self.config.aspect_jitter))
        turn = np.diag([scale * stretch, scale / stretch])
        if rng.random() < 0.5:
            turn = turn @ np.array([[-1, 0], [0, 1]])
        for _ in range(int(rng.integers(4))):
            turn = turn @ np.array([[0, -1], [1, 0]])
        offset = size / 2 - turn @ centre
        # warpAffine places pixel centres on integers; the boxes' coordinates are pixel edges.
        shift = offset + turn @ np.array([0.5, 0.5]) - 0.5
        flags = cv2.INTER_LINEAR if scale > 0.75 else cv2.INTER_AREA
        cut = cv2.warpAffine(
            image, np.column_stack([turn, shift]), (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return cut.astype(np.uint8, copy=False), np.column_stack([turn, offset])

    def _aim(self, size: int, rng: np.random.Generator) -> tuple[int, NDArray[np.float64]]:
        """A board and the pixel to centre a crop on: near a defect mostly, anywhere otherwise."""
        if rng.random() < self.config.near_defect:
            index, row = self.defects[int(rng.integers(len(self.defects)))]
            x1, y1, x2, y2 = self.boards[index].boxes_xyxy[row]
            return index, np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + rng.uniform(-0.4, 0.4, 2) * size
        index = int(rng.integers(len(self.boards)))
        height, width = self.images[index].shape
        return index, rng.uniform(0, 1, 2) * (width, height)

    def _degrade(self, crop: Crop, rng: np.random.Generator) -> Crop:
        """Other cameras: thicker or thinner copper by a new threshold, other gray levels, sensor noise."""
        image = crop.image
        if rng.random() < self.config.threshold_jitter:
            blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 1.6)))
            image = np.where(blurred > rng.uniform(70, 185), np.uint8(255), np.uint8(0))
        if rng.random() < self.config.level_jitter:
            dark, light = rng.uniform(0, 70), rng.uniform(170, 255)
            noise = rng.normal(0, rng.uniform(0, 12), image.shape)
            levels = dark + image.astype(np.float32) * ((light - dark) / 255) + noise
            image = np.clip(levels, 0, 255).astype(np.uint8)
        return Crop(image, crop.boxes_xyxy, crop.class_ids)


def _draw_into(crop: Crop, count: int, rng: np.random.Generator) -> Crop:
    boxes, classes = crop.boxes_xyxy, crop.class_ids
    for class_id in rng.choice(len(BARE_BOARD), count, p=DRAWN_SHARES):
        box = draw_defect(crop.image, int(class_id), boxes, rng)
        if box is not None:
            boxes = np.concatenate([boxes, box[None]])
            classes = np.append(classes, class_id)
    return Crop(crop.image, boxes, classes)


def _move_boxes(
    board: Board, matrix: NDArray[np.float64], size: int, min_visible: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    corners = board.boxes_xyxy.reshape(-1, 2, 2).astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    inside = np.clip(boxes, 0, size)
    visible = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = visible >= min_visible
    return inside[keep].astype(np.float32), board.class_ids[keep]
