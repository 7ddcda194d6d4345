"""The pixels of a defect within its box: those within a given outline, else what stands out there, else all of it.

What stands out is said by no model. Openings and closings with discs of several sizes leave what is smaller than the
disc and brighter or darker than what is around it (top-hat and black-hat); the piece that is most distinct and central
and does not run out of the box is taken for the defect. That is for pictures of two levels, copper and not copper:
where there are more, as among components, the box itself comes nearer to a defect than any piece in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.answer import Detection, Mask, RunLengths
from gateway.pictures.top_hat import top_hat
from gateway.request.deadline import Deadline

MAX_MASKS = 200  # of one picture: the best boxes; bounds the time
MAX_SIDE = 128  # of a box, in pixels; a larger one is looked at in less detail
SURROUNDINGS = 1.0  # looked at on each side of a box, in its longer sides
DISCS = (0.2, 0.3, 0.45, 0.65, 0.9)  # diameters, in the box's shorter side
LEAST_CONTRAST = 8  # of 255: what is fainter is noise
LEAST_PIXELS = 4
TWO_LEVELS = 12.0  # standard deviations between two levels around a box: what has less shows more than two, or noise
MOST_COUNTED = 2**14  # pixels of a box's surroundings, about, whose colours are counted
FINE = 4  # parts of a pixel, each way, in which outlines are filled: a pixel counts whose middle is within
MOST_FINE = 2**20  # pixels of a box; in a larger one outlines are filled to the whole pixel
OUTER = 0.9  # from the box's centre 0 to its border 1: what lies beyond runs out of the box
MOST_OUTER = 0.12  # share of a piece that may lie there
NEAR = 0.6  # a piece must reach so far in


@dataclass(frozen=True)
class Piece:
    """The pixels of a defect: `inside` (h, w) of the box whose top-left corner is `left`, `top` in the image."""

    inside: NDArray[np.bool_]
    left: int
    top: int

    def run_lengths(self, resolution_wh: tuple[int, int]) -> list[int]:
        """COCO's uncompressed RLE of the whole image: runs of 0 and 1 in turn, column by column, zeros first."""
        width, height = resolution_wh
        rows, columns = self.inside.shape
        pitch = rows if rows == height else rows + 1  # a zero ends each column, unless the next one follows at once
        padded = np.zeros((columns, pitch), np.int8)
        padded[:, :rows] = self.inside.T
        edges = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0), append=np.int8(0)))
        column, row = np.divmod(edges, pitch)
        places = (column + self.left) * height + row + self.top
        runs = np.diff(np.concatenate([[0], places, [width * height]]))
        return [int(run) for run in (runs if runs[-1] else runs[:-1])]

    def polygons(self) -> list[list[tuple[float, float]]]:
        """The outer outlines through the middles of the border's pixels, in pixels of the image."""
        contours, _ = cv2.findContours(self.inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        return [
            [(float(x) + self.left + 0.5, float(y) + self.top + 0.5) for x, y in contour[:, 0]]
            for contour in contours
            if len(contour) >= 3
        ]


def add_masks(
    pixels: NDArray[np.uint8],
    detections: Sequence[Detection],
    outlines: Iterable[NDArray[np.float32] | None],
    deadline: Deadline,
) -> None:
    """Gives each of the first MAX_MASKS detections in an RGB image (H, W, 3) its mask, where there is one.

    `outlines` has for each of them what a model wrote, points (M, 2) in pixels of the image, or None.

    Raises:
        DeadlineError: it passed between two masks.
    """
    height, width = pixels.shape[:2]
    for found, outline in zip(detections[:MAX_MASKS], outlines, strict=True):
        deadline.remaining_s()
        box_xyxy = (found.box.x1, found.box.y1, found.box.x2, found.box.y2)
        written = None if outline is None else fill_outline(outline, box_xyxy, (width, height))
        source, piece = ("model", written) if written else mask_without_model(pixels, box_xyxy)
        if piece is not None:
            lengths = RunLengths(size=(height, width), counts=piece.run_lengths((width, height)))
            found.mask = Mask(source=source, rle=lengths, polygons=piece.polygons())


def mask_without_model(
    pixels: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]
) -> tuple[Literal["pixels", "box"], Piece | None]:
    """What stands out in a box of an RGB image (H, W, 3) of two levels, else the box; None where there is no pixel."""
    left, top, right, bottom = _pixels_of(box_xyxy, (pixels.shape[1], pixels.shape[0]))
    if right <= left or bottom <= top:
        return "box", None
    around, _ = _surroundings(pixels, left, top, right, bottom)
    if levels_apart(around) >= TWO_LEVELS:
        return "pixels", find_piece(pixels, box_xyxy)
    return "box", Piece(np.ones((bottom - top, right - left), bool), left, top)


def levels_apart(crop: NDArray[np.uint8]) -> float:
    """How far the two levels of an RGB image (H, W, 3) are apart, in standard deviations within them; 0 if it has one.

    They are what lies on either side of a threshold along the axis on which the colours vary most. (Otsu, A threshold
    selection method from gray-level histograms, 1979.)
    """
    step = max(1, round((crop.shape[0] * crop.shape[1] / MOST_COUNTED) ** 0.5))
    colours = crop[::step, ::step].reshape(-1, 3).astype(np.float32)
    colours -= colours.mean(axis=0)
    scatter = colours.T @ colours
    along = colours @ np.linalg.eigh(scatter)[1][:, -1]
    least, most = float(along.min()), float(along.max())
    if most - least < LEAST_CONTRAST:
        return 0.0
    levels = ((along - least) * (255 / (most - least))).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    high = levels > threshold
    means = [colours[side].mean(axis=0) for side in (high, ~high)]
    between = sum(float((side.sum() * mean**2).sum()) for side, mean in zip((high, ~high), means, strict=True))
    within: float = max(float(np.trace(scatter)) - between, 0.0) / len(colours)
    return float(np.linalg.norm(means[0] - means[1]) / (within**0.5 + 1))  # + 1: the rounding of a level


def fill_outline(
    outline: NDArray[np.float32], box_xyxy: tuple[float, float, float, float], resolution_wh: tuple[int, int]
) -> Piece | None:
    """The pixels within an outline (M, 2) that lie in its box and in the image; None where there are none."""
    left, top, right, bottom = _pixels_of(box_xyxy, resolution_wh)
    if right <= left or bottom <= top:
        return None
    fine = FINE if (bottom - top) * (right - left) <= MOST_FINE else 1
    filled = np.zeros(((bottom - top) * fine, (right - left) * fine), np.uint8)
    cv2.fillPoly(filled, [np.rint((outline - (left, top)) * fine).astype(np.int32)], (1,))
    inside = filled[fine // 2 :: fine, fine // 2 :: fine].astype(bool)
    return Piece(inside, left, top) if inside.any() else None


def find_piece(pixels: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]) -> Piece | None:
    """The pixels of the defect in a box of an RGB image (H, W, 3); None where nothing in it stands out."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = _pixels_of(box_xyxy, (width, height))
    if right <= left or bottom <= top:
        return None
    crop, (x1, y1) = _surroundings(pixels, left, top, right, bottom)
    scale = min(1.0, MAX_SIDE / max(right - left, bottom - top))
    if min(crop.shape[:2]) * scale < 1:
        return None  # a sliver of which nothing would be left
    if scale < 1:
        crop = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    box = [round(value * scale) for value in (left - x1, top - y1, right - x1, bottom - y1)]
    inside = _most_distinct(crop, box)
    if inside is None:
        return None
    if scale < 1:
        size = (right - left, bottom - top)
        inside = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return Piece(inside, left, top)


def _pixels_of(
    box_xyxy: tuple[float, float, float, float], resolution_wh: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The whole pixels of an image that a box touches: left, top, and the first ones behind it."""
    (left, top), (right, bottom) = np.floor(box_xyxy[:2]).astype(int), np.ceil(box_xyxy[2:]).astype(int)
    return max(0, int(left)), max(0, int(top)), min(resolution_wh[0], int(right)), min(resolution_wh[1], int(bottom))


def _surroundings(
    pixels: NDArray[np.uint8], left: int, top: int, right: int, bottom: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """What an image (H, W, 3) shows in and around a box, and the top-left corner of that."""
    margin = int(SURROUNDINGS * max(right - left, bottom - top))
    x1, y1 = max(0, left - margin), max(0, top - margin)
    return pixels[y1 : bottom + margin, x1 : right + margin], (x1, y1)


def _most_distinct(crop: NDArray[np.uint8], box: list[int]) -> NDArray[np.bool_] | None:
    """The best piece (h, w) of a box x1, y1, x2, y2 in its surroundings."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    if min(width, height) < 2:
        return None
    across = np.abs(np.arange(width) - (width - 1) / 2) / (width / 2)
    down = np.abs(np.arange(height) - (height - 1) / 2) / (height / 2)
    distance = np.maximum(across[None, :], down[:, None])  # (h, w) from the centre 0 to the border 1
    best, best_score = None, 0.0
    planes = _planes(crop)
    for share in DISCS:
        diameter = max(3, round(min(width, height) * share) | 1)
        responses = top_hat(planes, (x1, y1, x2, y2), diameter)
        for response, strongest in zip(responses, np.percentile(responses, 99, axis=(1, 2)), strict=True):
            if strongest < LEAST_CONTRAST:
                continue
            distinct = (response > strongest / 2).astype(np.uint8)
            count, pieces = cv2.connectedComponents(distinct, connectivity=8)
            scores = _scores(pieces, count, response, distance)
            number = int(scores.argmax())
            if scores[number] > best_score:
                best, best_score = pieces == number, float(scores[number])
    return best


def _scores(
    pieces: NDArray[np.int32], count: int, response: NDArray[np.uint8], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By piece, how much it looks like the defect that the box was drawn around; 0 for what cannot be it."""
    number = pieces.ravel()

    def each(weights: NDArray[np.generic] | None = None) -> NDArray[np.float64]:
        sums = np.bincount(number, None if weights is None else weights.ravel(), count)
        return np.asarray(sums, np.float64)

    size = np.maximum(each(), 1)
    possible = (size >= LEAST_PIXELS) & (each(distance > OUTER) / size <= MOST_OUTER) & (each(distance <= NEAR) > 0)
    possible[0] = False  # what is no piece
    scores = each(response) / size * (size / pieces.size) ** 0.25 * (1 - each(distance) / size)
    return np.where(possible, scores, 0.0)


def _planes(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(P, H, W): lightness, and the two of colour (CIE L*a*b*) where there is any; each also with dark for bright."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
    coloured = [channel for channel in (lab[..., 1], lab[..., 2]) if np.ptp(channel) >= LEAST_CONTRAST]
    return np.stack([plane for channel in (lab[..., 0], *coloured) for plane in (channel, 255 - channel)])
