"""Bare boards as a binarised line scan shows them, without defects: copper black, all else white.

They are what defects are drawn into while training (training/crops/drawn_defects.py), and what an open or a short must
not be taken for: necks, meanders, narrow gaps, traces that end, and edges frayed by etching until a neck is all crumbs.
"""

from itertools import pairwise

import cv2
import numpy as np

from training.synth.copper import route
from training.synth.layout import lay_out
from training.synth.surface import Mask, noise

PX_PER_MM = (12.0, 45.0)
MEANDER_SHARE = 0.5  # of boards
INVERTED_SHARE = 0.2  # of boards: lines without copper in an area full of it
GAP_SHARE = 0.5  # of meanders: a line without copper, in a strip full of it
NECK_SHARE = 0.4  # of a meander's legs: narrower from somewhere on
FRAYED_SHARE = 0.4  # of boards
DRILLED_SHARE = 0.7  # of boards whose pads and vias show their holes


def draw_bare_board(seed: int, index: int, size: int) -> Mask:
    """A gray picture (size, size) of one board; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, index, 2])  # 0 and 1 are the splits of assembled boards
    px_per_mm = float(np.exp(rng.uniform(*np.log(PX_PER_MM))))
    board = lay_out(size, px_per_mm, rng)
    route(board, rng)
    copper = board.copper
    if rng.random() < MEANDER_SHARE:
        for _ in range(int(rng.integers(1, 4))):
            _meander(copper, px_per_mm, rng)
    if rng.random() < DRILLED_SHARE:
        for x, y, radius, _ in board.vias:
            board.draw_disc(copper, x, y, radius * 0.45, 0)
        for x, y, radius in board.test_points:
            board.draw_disc(copper, x, y, radius * 0.4, 0)
    if rng.random() < INVERTED_SHARE:
        np.subtract(255, copper, out=copper)
    return _binarise(copper, rng)


def _meander(copper: Mask, px_per_mm: float, rng: np.random.Generator) -> None:
    """A square wave across a strip of its own, each leg as wide as it likes: the necks are meant."""
    side = len(copper)
    width = rng.uniform(0.15, 0.5) * px_per_mm
    pitch, height = width * rng.uniform(2.2, 6.0), width * rng.uniform(3.0, 10.0)
    top = rng.uniform(0, side - height)
    strip: Mask = np.zeros_like(copper)
    x, high = -pitch, False
    while x < side + pitch:
        level, step = top + (height if high else 0.0), pitch * rng.uniform(0.6, 1.4)
        corners = [(x, level), (x + step, level), (x + step, top + (0.0 if high else height))]
        for begin, end in pairwise(corners):
            _leg(strip, begin, end, width * rng.uniform(0.5, 1.3), rng)
        x, high = x + step, not high
    if rng.random() < GAP_SHARE:
        np.subtract(255, strip, out=strip)
    clear = round(height / 2 + width * 2)
    middle = round(top + height / 2)
    rows = slice(max(0, middle - clear), middle + clear)
    copper[rows] = strip[rows]
    if rng.random() < 0.5:
        copper[:] = np.rot90(copper).copy()


def _leg(
    strip: Mask, begin: tuple[float, float], end: tuple[float, float], width: float, rng: np.random.Generator
) -> None:
    """A straight line, the latter part of some a neck of a few pixels."""
    (x1, y1), (x2, y2) = begin, end
    neck = rng.random() < NECK_SHARE
    share = rng.uniform(0.2, 0.7) if neck else 1.0
    x, y = x1 + (x2 - x1) * share, y1 + (y2 - y1) * share
    cv2.line(strip, (round(x1), round(y1)), (round(x), round(y)), (255,), max(2, round(width)), cv2.LINE_AA)
    if neck:
        thin = max(2, round(min(width, 7.0) * rng.uniform(0.3, 0.8)))
        cv2.line(strip, (round(x), round(y)), (round(x2), round(y2)), (255,), thin, cv2.LINE_AA)


def _binarise(copper: Mask, rng: np.random.Generator) -> Mask:
    """Edges as a scan has them: rounded by the optics, wavy by etching and noise, on some boards frayed."""
    blurred = cv2.GaussianBlur(copper, (0, 0), float(rng.uniform(0.8, 1.8))).astype(np.float32)
    waves = noise((len(copper), len(copper)), float(rng.uniform(2.0, 6.0)), rng) * rng.uniform(4.0, 30.0)
    if rng.random() < FRAYED_SHARE:
        waves += noise((len(copper), len(copper)), float(rng.uniform(0.8, 1.6)), rng) * rng.uniform(20.0, 45.0)
    waves = np.clip(waves, -120.0, 120.0)  # which leaves what is far from an edge as it is
    return np.where(blurred + waves > 128, np.uint8(0), np.uint8(255))
