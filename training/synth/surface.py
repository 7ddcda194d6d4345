"""The layers of a board that the light falls on: colour, gloss and height, and patches that are laid upon them.

It knows neither boards nor light. Colours are linear RGB, 0..1; `srgb` makes them. Lengths come in millimetres and
become pixels by `px_per_mm`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Layer = NDArray[np.float32]
Mask = NDArray[np.uint8]  # coverage, 0..255
Colour = NDArray[np.float32]
SUBPIXEL_BITS = 4
ARC_TURNS = np.concatenate([np.linspace(0, np.pi / 2, 5) + quarter * np.pi / 2 for quarter in range(4)])
ARCS = np.stack([np.cos(ARC_TURNS), np.sin(ARC_TURNS)], axis=1)  # (20, 2) of a circle, five to a corner
QUADRANTS = np.repeat([(1, 1), (-1, 1), (-1, -1), (1, -1)], 5, axis=0)


def srgb(red: float, green: float, blue: float) -> Colour:
    """A display colour, 0..255, as linear RGB; the camera develops with the inverse, a square root."""
    return (np.array([red, green, blue], np.float32) / 255) ** 2


def fill_polygon(mask: Mask, points_xy: NDArray[np.float64]) -> None:
    """Fills a convex polygon (N, 2) with smooth edges, to fractions of a pixel."""
    fixed = np.rint((points_xy - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, (255,), cv2.LINE_AA, SUBPIXEL_BITS)


def rounded_box(x1: float, y1: float, x2: float, y2: float, radius: float) -> NDArray[np.float64]:
    """The corners (N, 2) of a box with rounded corners."""
    radius = min(radius, (x2 - x1) / 2, (y2 - y1) / 2)
    if radius <= 0:
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    inset = np.array([(x2 - x1) / 2 - radius, (y2 - y1) / 2 - radius])
    corners: NDArray[np.float64] = QUADRANTS * inset + radius * ARCS + ((x1 + x2) / 2, (y1 + y2) / 2)
    return corners


def letter(mask: Mask, text: str, x: float, y: float, height: float, stroke: float) -> None:
    """Writes text centred on a point; height and stroke in pixels."""
    scale = height / 21  # the letters of this font are 21 pixels high
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    origin = (round(x - width / 2), round(y + height / 2))
    cv2.putText(mask, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), max(1, round(stroke)), cv2.LINE_AA)


class Patch:
    """A small picture with its own height, drawn upright and laid upon a surface at any angle.

    Its origin is its middle; everything is given in millimetres. `tint` (h, w, 4) holds colour times coverage, and
    coverage; `relief` (h, w, 2) holds gloss and height above the board, both times coverage.
    """

    def __init__(self, width_mm: float, height_mm: float, px_per_mm: float) -> None:
        self.scale = px_per_mm
        shape = (int(np.ceil(height_mm * px_per_mm)) + 4, int(np.ceil(width_mm * px_per_mm)) + 4)
        self.middle = np.array([shape[1] / 2, shape[0] / 2])
        self.tint = np.zeros((*shape, 4), np.float32)
        self.relief = np.zeros((*shape, 2), np.float32)

    @property
    def coverage(self) -> Layer:
        """How much of each pixel the patch covers, 0..1 (h, w)."""
        return self.tint[..., 3]

    def axes_mm(self) -> tuple[Layer, Layer]:
        """The x (1, w) and y (h, 1) of the pixels' centres."""
        rows, columns = self.tint.shape[:2]
        x = (np.arange(columns, dtype=np.float32) + 0.5 - np.float32(self.middle[0])) / np.float32(self.scale)
        y = (np.arange(rows, dtype=np.float32) + 0.5 - np.float32(self.middle[1])) / np.float32(self.scale)
        return x[None, :], y[:, None]

    def empty_mask(self) -> Mask:
        """A mask of the patch with nothing in it."""
        return np.zeros(self.tint.shape[:2], np.uint8)

    def box(self, x1: float, y1: float, x2: float, y2: float, radius: float = 0.0, mask: Mask | None = None) -> Mask:
        """A box with rounded corners, as a mask of its own or added to one."""
        mask = self.empty_mask() if mask is None else mask
        radius *= radius * self.scale > 1  # what is smaller nobody sees
        fill_polygon(mask, rounded_box(x1, y1, x2, y2, radius) * self.scale + self.middle)
        return mask

    def disc(self, x: float, y: float, radius: float) -> Mask:
        """A mask of a disc."""
        mask = self.empty_mask()
        turns = np.linspace(0, 2 * np.pi, max(12, int(radius * self.scale * 3)), endpoint=False)
        circle = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)
        fill_polygon(mask, circle * self.scale + self.middle)
        return mask

    def text(self, text: str, x: float, y: float, height: float, stroke: float) -> Mask:
        """A mask of a line of text centred on a point."""
        mask = self.empty_mask()
        at = np.array([x, y]) * self.scale + self.middle
        letter(mask, text, float(at[0]), float(at[1]), height * self.scale, stroke * self.scale)
        return mask

    def paint(
        self, mask: Mask | Layer, colour: Colour | Layer, gloss: float, height: float | Layer | None = None
    ) -> None:
        """Covers the patch where the mask says so; without a height only the look changes."""
        spots = np.flatnonzero(mask)
        share = _share(mask, spots)[:, None]
        layers = [_at(colour, spots), np.ones((1, 1), np.float32)]
        tint, relief = self.tint.reshape(-1, 4), self.relief.reshape(-1, 2)
        for channels, values in zip((np.s_[:3], np.s_[3:]), layers, strict=True):
            tint[spots, channels] += (values - tint[spots, channels]) * share
        relief[spots, :1] += (gloss - relief[spots, :1]) * share
        if height is not None:
            lifted = _at(np.asarray(height, np.float32)[..., None], spots)
            relief[spots, 1:] += (lifted - relief[spots, 1:]) * share


@dataclass
class Surface:
    """The whole board: albedo (H, W, 3) linear, gloss (H, W) 0..1, height (H, W) in millimetres above the laminate."""

    albedo: Layer
    gloss: Layer
    height: Layer
    px_per_mm: float

    @classmethod
    def bare(cls, side: int, px_per_mm: float) -> "Surface":
        """A black, flat square."""
        return cls(
            np.zeros((side, side, 3), np.float32),
            np.zeros((side, side), np.float32),
            np.zeros((side, side), np.float32),
            px_per_mm,
        )

    def paint(self, mask: Mask | Layer, colour: Colour | Layer, gloss: float, lift: float = 0.0) -> None:
        """Covers the surface where a mask of its size says so, and lifts it there by millimetres."""
        spots = np.flatnonzero(mask)
        share = _share(mask, spots)
        albedo = self.albedo.reshape(-1, 3)
        albedo[spots] += (_at(colour, spots) - albedo[spots]) * share[:, None]
        self.gloss.reshape(-1)[spots] += (gloss - self.gloss.reshape(-1)[spots]) * share
        self.height.reshape(-1)[spots] += lift * share

    def lay(self, patch: Patch, x: float, y: float, angle_deg: float, stamp: Mask | None = None) -> None:
        """Lays a patch with its middle on a pixel position, turned clockwise; `stamp` receives its coverage."""
        rows, columns = patch.tint.shape[:2]
        turn = np.deg2rad(angle_deg)
        forward = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        corners = (np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)]) - patch.middle) @ forward.T + (x, y)
        low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(axis=0)), self.gloss.shape[::-1]).astype(int)
        if (high <= low).any():
            return
        # Pixel centres lie at +0.5 on both sides.
        offset = np.array([x, y]) - low - 0.5 - forward @ (patch.middle - 0.5)
        matrix = np.column_stack([forward, offset])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        tint = cv2.warpAffine(patch.tint, matrix, size, flags=cv2.INTER_LINEAR)
        relief = cv2.warpAffine(patch.relief, matrix, size, flags=cv2.INTER_LINEAR)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        rest = 1 - tint[..., 3]
        self.albedo[window] = self.albedo[window] * rest[..., None] + tint[..., :3]
        self.gloss[window] = self.gloss[window] * rest + relief[..., 0]
        self.height[window] = self.height[window] * rest + relief[..., 1]
        if stamp is not None:
            np.maximum(stamp[window], (tint[..., 3] * 255).astype(np.uint8), out=stamp[window])


def _share(mask: Mask | Layer, spots: NDArray[np.intp]) -> Layer:
    share = mask.reshape(-1)[spots].astype(np.float32)
    return share / np.float32(255) if mask.dtype == np.uint8 else share


def _at(layer: Colour | Layer, spots: NDArray[np.intp]) -> Layer:
    """The values (N, C) of a layer (h, w, C) at flat positions; a single colour (C,) serves all of them."""
    return layer.reshape(-1, layer.shape[-1])[spots] if layer.ndim == 3 else layer[None, ...]


def noise(shape: tuple[int, int], grain_px: float, rng: np.random.Generator) -> Layer:
    """Smooth random values of mean 0 and deviation about 1, whose lumps are about `grain_px` across."""
    step = max(1.0, grain_px)
    coarse = (int(shape[0] / step) + 3, int(shape[1] / step) + 3)
    values = rng.standard_normal(coarse, dtype=np.float32)
    if step == 1:
        return values[: shape[0], : shape[1]]
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
