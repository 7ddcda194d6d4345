"""Dust and fibres on a painted board: they look like defects and are none, so nothing annotates them."""

import cv2
import numpy as np

from training.synth.board import Board
from training.synth.surface import Surface, srgb

SPECK, FIBRES = srgb(196, 194, 186), (srgb(210, 208, 202), srgb(40, 44, 60), srgb(150, 60, 50))


def settle(surface: Surface, board: Board, rng: np.random.Generator) -> None:
    """Strews specks of a tenth of a millimetre and a few curled fibres over everything, and counts them."""
    scale = surface.px_per_mm
    specks = np.zeros(surface.gloss.shape, np.uint8)
    count = int(rng.integers(4, 22))
    for _ in range(count):
        x, y = (float(value) for value in rng.uniform(0, board.side, 2))
        board.draw_disc(specks, x, y, float(rng.uniform(0.025, 0.06)) * scale, int(rng.integers(70, 190)))
    surface.paint(specks, SPECK, 0.05)
    board.hard_negatives["dust"] += count
    for _ in range(int(rng.integers(1, 4))):
        fibre = np.zeros(surface.gloss.shape, np.uint8)
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.22, 40))
        steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * float(rng.uniform(1.2, 3.5)) * scale / 40
        path = rng.uniform(0, board.side, 2) + np.cumsum(steps, axis=0)
        cv2.polylines(
            fibre, [np.rint(path * 16).astype(np.int32)], False, (int(rng.integers(90, 190)),), 1, cv2.LINE_AA, 4
        )
        surface.paint(fibre, FIBRES[int(rng.integers(len(FIBRES)))], 0.05)
        board.hard_negatives["fibre"] += 1
