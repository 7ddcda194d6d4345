"""The white print on a board: outlines of packages, pin-1 marks, reference designators."""

import cv2
import numpy as np

from training.synth.board import Board, Part
from training.synth.surface import letter

SILK = 0.11  # mm, width of a line
LETTERS = 0.85  # mm, height of a reference designator


def _stroke(board: Board, part: Part, points_mm: list[tuple[float, float]]) -> None:
    points = part.to_canvas(np.array(points_mm), board.px_per_mm)
    fixed = np.rint((points - 0.5) * 16).astype(np.int32)
    width = max(1, round(SILK * board.px_per_mm))
    cv2.polylines(board.silk, [fixed], False, (255,), width, cv2.LINE_AA, 4)
    board.hard_negatives["silk_line"] += 1


def draw_outline(board: Board, part: Part, rng: np.random.Generator) -> None:
    """The silkscreen that belongs around a package."""
    package, (x, y) = part.package, part.package.reach
    body_x, body_y = package.body[0] / 2 + 0.15, package.body[1] / 2 + 0.15
    if package.family == "chip":
        if rng.random() < 0.75:
            for side in (-1, 1):
                _stroke(board, part, [(-0.3 * x, side * (y + 0.14)), (0.3 * x, side * (y + 0.14))])
    elif package.name == "RADIAL":
        turns = np.linspace(0, 2 * np.pi, 40)
        _stroke(board, part, [(float(2.6 * np.cos(t)), float(2.6 * np.sin(t))) for t in turns])
        _stroke(board, part, [(-1.9, -1.45), (-1.3, -1.45)])
        _stroke(board, part, [(-1.6, -1.75), (-1.6, -1.15)])
    elif package.family == "gull_wing" and len(package.pads) > 3:
        for sx in (-1, 1):
            for sy in (-1, 1):
                _stroke(board, part, [(sx * (body_x - 0.7), sy * body_y), (sx * body_x, sy * body_y)])
                _stroke(board, part, [(sx * body_x, sy * (body_y - 0.7)), (sx * body_x, sy * body_y)])
        at = part.to_canvas(np.array([(-body_x - 0.3, body_y + 0.5)]), board.px_per_mm)[0]
        board.draw_disc(board.silk, float(at[0]), float(at[1]), 0.22 * board.px_per_mm)
    else:
        box = [(-body_x, -body_y), (body_x, -body_y), (body_x, body_y), (-body_x, body_y), (-body_x, -body_y)]
        _stroke(board, part, box)


def write_reference(board: Board, part: Part, above: bool) -> None:
    """Writes the name of a part beside it where there is room; DNP on one that stays unpopulated."""
    x1, y1, x2, y2 = part.box(board.px_per_mm)
    far = 0.8 * board.px_per_mm
    text = "DNP" if part.dnp else part.reference
    spots = [((x1 + x2) / 2, y1 - far), ((x1 + x2) / 2, y2 + far)]
    half = 0.42 * LETTERS * len(text) * board.px_per_mm
    spots += [(x1 - half - far / 2, (y1 + y2) / 2), (x2 + half + far / 2, (y1 + y2) / 2)]
    for x, y in spots if above else [spots[1], spots[0], *spots[2:]]:
        if write(board, text, x, y):
            board.hard_negatives["dnp"] += part.dnp
            return
    if part.dnp:  # without the word nobody can tell it from a missing component
        letter(board.silk, text, (x1 + x2) / 2, (y1 + y2) / 2, 0.8 * board.px_per_mm, SILK * board.px_per_mm)
        board.hard_negatives["dnp"] += 1


def write(board: Board, text: str, x: float, y: float) -> bool:
    """Writes where there is room; whether there was."""
    half_x, half_y = 0.4 * LETTERS * len(text) * board.px_per_mm, 0.5 * LETTERS * board.px_per_mm
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    if not board.is_free(box):
        return False
    board.taken.append(box)
    letter(board.silk, text, x, y, LETTERS * board.px_per_mm, SILK * board.px_per_mm)
    return True
