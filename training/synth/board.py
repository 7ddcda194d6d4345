"""What stands where on a board: parts, their joints, vias, test points, silkscreen. Nothing here knows how it looks.

Positions are pixels of the board's own square canvas, a little larger than the picture; x right, y down.
"""

from collections import Counter
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synth.packages import Package
from training.synth.solder import State
from training.synth.surface import Mask, fill_polygon

Point = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass
class Part:
    """One placed package: how it should be, and what a defect made of it.

    `joint_stamps` and `body_stamp` receive, while the part is painted, the pixels that a defect shows.
    """

    package: Package
    middle: Point
    angle_deg: float
    reference: str
    seed: int
    joints: list[State]
    dnp: bool = False
    fitted: bool = True
    on_end: bool = False
    shift: Point = field(default_factory=lambda: np.zeros(2))
    turn_deg: float = 0.0
    bridges: list[tuple[int, int, Mask]] = field(default_factory=list)
    joint_stamps: dict[int, Mask] = field(default_factory=dict)
    body_stamp: Mask | None = None

    def to_canvas(self, points_mm: NDArray[np.float64], px_per_mm: float) -> NDArray[np.float64]:
        """Points (N, 2) of the footprint as canvas pixels."""
        turn = np.deg2rad(self.angle_deg)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        placed: NDArray[np.float64] = points_mm @ rotation * px_per_mm + self.middle
        return placed

    def pad_middles(self, px_per_mm: float) -> NDArray[np.float64]:
        """The middles of the pads (N, 2)."""
        return self.to_canvas(np.array([(pad.x, pad.y) for pad in self.package.pads]), px_per_mm)

    def box(self, px_per_mm: float, margin_mm: float = 0.0) -> Box:
        """The box xyxy around body and pads."""
        x, y = self.package.reach
        corners = self.to_canvas(np.array([(-x, -y), (x, y), (-x, y), (x, -y)]), px_per_mm)
        (x1, y1), (x2, y2) = corners.min(axis=0) - margin_mm * px_per_mm, corners.max(axis=0) + margin_mm * px_per_mm
        return float(x1), float(y1), float(x2), float(y2)

    def pad_corners(self, index: int, px_per_mm: float, margin_mm: float = 0.0) -> NDArray[np.float64]:
        """The outline (N, 2) of one pad, a disc's or a box's."""
        pad = self.package.pads[index]
        half = np.array([pad.length, pad.width]) / 2 + margin_mm
        if pad.round:
            turns = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            outline = np.stack([np.cos(turns), np.sin(turns)], axis=1) * half
        else:
            outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
        turn = np.deg2rad(pad.outward_deg)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return self.to_canvas(outline @ rotation + (pad.x, pad.y), px_per_mm)


@dataclass
class Board:
    """A square board of `side` pixels: masks of copper, openings in the solder mask, silkscreen (side, side)."""

    side: int
    px_per_mm: float
    parts: list[Part] = field(default_factory=list)
    vias: list[tuple[float, float, float, bool]] = field(default_factory=list)  # x, y, radius in pixels, tented
    holes: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, radius
    test_points: list[tuple[float, float, float]] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)
    hard_negatives: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.copper, self.openings, self.silk = (np.zeros((self.side, self.side), np.uint8) for _ in range(3))

    def is_free(self, box: Box) -> bool:
        """Whether nothing has been placed in a box."""
        if not self.taken:
            return True
        x1, y1, x2, y2 = np.array(self.taken).T
        return not ((x1 < box[2]) & (x2 > box[0]) & (y1 < box[3]) & (y2 > box[1])).any()

    def draw_pad(self, outline: NDArray[np.float64], opening: NDArray[np.float64]) -> None:
        """Copper with an opening of the solder mask over it."""
        fill_polygon(self.copper, outline)
        fill_polygon(self.openings, opening)

    def draw_disc(self, mask: Mask, x: float, y: float, radius: float, value: int = 255) -> None:
        """Fills a disc of one of the masks."""
        centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
        cv2.circle(mask, centre, round(radius * 16), (value,), -1, cv2.LINE_AA, 4)
