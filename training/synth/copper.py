"""Routes copper between what stands on a board: traces with 45-degree bends, vias, buses, and poured areas."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synth.board import Board
from training.synth.surface import Mask, noise

GAP = 0.2  # mm between any two conductors
WIDTHS = (0.2, 0.25, 0.25, 0.3, 0.4, 0.6)  # mm
SHORTEST = 1.2  # mm of a trace that is worth drawing
POUR_SHARE = 0.75  # of boards
TRIES = 2  # paths from a pad


def route(board: Board, rng: np.random.Generator) -> None:
    """Draws traces from pads, buses across the board, and a pour between them; counts what looks like a defect."""
    scale = board.px_per_mm
    blocked: Mask = np.asarray(cv2.dilate(board.copper, _disc((GAP + 0.15) * scale)), np.uint8)
    for x, y, radius in board.holes:
        board.draw_disc(blocked, x, y, radius + 0.6 * scale)
    for part in board.parts:
        middles = part.pad_middles(scale)
        for index in rng.permutation(len(part.package.pads)):
            if rng.random() < 0.15:
                continue
            pad = part.package.pads[index]
            outward = part.angle_deg + pad.outward_deg
            if pad.round:
                outward = float(rng.choice([0.0, 90.0, 180.0, 270.0]))
            width = min(float(rng.choice(WIDTHS)), 0.8 * pad.width)
            inside = (pad.length / 2 + GAP + 0.3) * scale
            _trace(board, blocked, middles[index], outward, width * scale, inside, rng)
    for x, y, radius in board.test_points:
        heading = float(rng.choice([0.0, 90.0, 180.0, 270.0]))
        _trace(board, blocked, np.array([x, y]), heading, 0.25 * scale, radius + (GAP + 0.2) * scale, rng)
    for _ in range(int(rng.integers(4, 9))):
        _bus(board, blocked, rng)
    for _ in range(int(rng.integers(10, 40))):
        x, y = (float(value) for value in rng.uniform(0, board.side, 2))
        if blocked[int(y), int(x)] == 0:
            _via(board, blocked, x, y, rng)
    if rng.random() < POUR_SHARE:
        _pour(board, rng)
    for x, y, radius, _ in board.vias:
        board.draw_disc(board.copper, x, y, radius)


def _disc(radius: float) -> Mask:
    side = 2 * round(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def _octilinear(
    start: NDArray[np.float64], heading_deg: float, side: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A path (N, 2), a point a pixel, that turns by 45 degrees and back."""
    heading, points, bend = heading_deg, [start], float(rng.choice([-45.0, 45.0]))
    for leg in range(int(rng.integers(2, 6))):
        length = rng.uniform(0.03, 0.3) * side * (0.5 if leg % 2 else 1.0)
        turn = np.deg2rad(heading)
        steps = np.arange(1.0, max(2.0, length))[:, None] * (np.cos(turn), np.sin(turn))
        points.append(points[-1][-1:] + steps if leg else start + steps)
        heading += bend if leg % 2 == 0 else float(rng.choice([-bend, -bend, bend]))
    return np.concatenate([points[0][None], *points[1:]])


def _run(blocked: Mask, path: NDArray[np.float64]) -> int:
    """How many points of a path lie free before the first obstacle or the board's edge."""
    cells = np.rint(path).astype(int)
    inside = ((cells >= 0) & (cells < len(blocked))).all(axis=1)
    cells = np.clip(cells, 0, len(blocked) - 1)
    bad = np.flatnonzero(blocked[cells[:, 1], cells[:, 0]] > 0)
    out = np.flatnonzero(~inside)
    # Where it leaves the board it may run on; where it meets copper it stops.
    if len(out) and (not len(bad) or out[0] < bad[0]):
        return int(out[0])
    return int(bad[0]) if len(bad) else len(path)


def _draw(board: Board, blocked: Mask, path: NDArray[np.float64], width: float) -> None:
    fixed = [np.rint((path[:: max(1, len(path) - 1)] if len(path) < 3 else path) * 16).astype(np.int32)]
    cv2.polylines(board.copper, fixed, False, (255,), max(2, round(width)), cv2.LINE_AA, 4)
    cv2.polylines(blocked, fixed, False, (255,), round(width + 2 * (GAP + 0.15) * board.px_per_mm), cv2.LINE_8, 4)


def _trace(
    board: Board,
    blocked: Mask,
    start: NDArray[np.float64],
    heading_deg: float,
    width: float,
    inside: float,
    rng: np.random.Generator,
) -> None:
    """One trace that leaves a pad; `inside` pixels of it lie within the pad's own clearance."""
    scale = board.px_per_mm
    for _ in range(TRIES):
        path = _octilinear(start, heading_deg, board.side, rng)
        skip = int(inside)
        length = skip + _run(blocked, path[skip:]) - round(0.3 * scale)
        if length < inside + SHORTEST * scale:
            continue
        _draw(board, blocked, path[:length], width)
        end = path[length - 1]
        if not (5 < end[0] < board.side - 5 and 5 < end[1] < board.side - 5):
            return
        _via(board, blocked, float(end[0]), float(end[1]), rng)
        board.hard_negatives["via_in_trace"] += 1
        return


def _bus(board: Board, blocked: Mask, rng: np.random.Generator) -> None:
    """Several traces side by side, each up to its own obstacle; some go on behind an intended gap."""
    scale, width = board.px_per_mm, float(rng.choice(WIDTHS)) * board.px_per_mm
    start = rng.uniform(0, board.side, 2)
    heading = float(rng.choice([0.0, 90.0, 180.0, 270.0]))
    path = _octilinear(start, heading, 1.6 * board.side, rng)
    ahead = np.gradient(cv2.blur(path, (1, 9)), axis=0)
    across = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    pitch = width + float(rng.uniform(1.1, 2.0)) * (GAP + 0.2) * scale
    for i in range(int(rng.integers(2, 8))):
        lane = path + across * i * pitch
        length = _run(blocked, lane)
        if length < 2 * SHORTEST * scale:
            continue
        free = lane[: length - 1]
        cut = len(free) > 12 * scale and rng.random() < 0.15
        halves = np.split(free, [len(free) // 2]) if cut else [free]
        for number, half in enumerate(halves):
            piece = half[round(0.55 * scale) :] if number else half[: len(half) - round(0.55 * scale) if cut else None]
            _draw(board, blocked, piece, width)
            for x, y in (piece[0], piece[-1]):
                if 5 < x < board.side - 5 and 5 < y < board.side - 5:
                    _via(board, blocked, float(x), float(y), rng)
                    board.hard_negatives["via_in_trace"] += 1
        board.hard_negatives["trace_gap"] += cut


def _via(board: Board, blocked: Mask, x: float, y: float, rng: np.random.Generator) -> None:
    radius = float(rng.uniform(0.27, 0.34)) * board.px_per_mm
    board.vias.append((x, y, radius, board.vias[-1][3] if board.vias and rng.random() < 0.9 else rng.random() < 0.5))
    board.draw_disc(board.copper, x, y, radius)
    board.draw_disc(blocked, x, y, radius + (GAP + 0.15) * board.px_per_mm)


def _pour(board: Board, rng: np.random.Generator) -> None:
    """Fills most of what is left, apart from all other copper; vias there may belong to it."""
    scale = board.px_per_mm
    reach = (GAP + float(rng.uniform(0.05, 0.2))) * scale
    keep_off: Mask = np.asarray(cv2.dilate(board.copper, _disc(reach)), np.uint8)
    for x, y, radius in board.holes:
        board.draw_disc(keep_off, x, y, radius + 0.5 * scale)
    region = noise((board.side, board.side), board.side / 2.5, rng) > rng.uniform(-1.2, 0.5)
    blocks = cv2.resize(region.astype(np.uint8), (9, 9), interpolation=cv2.INTER_AREA)
    region = cv2.resize(blocks, (board.side, board.side), interpolation=cv2.INTER_NEAREST) > 0
    pour = np.where(region & (keep_off < 128), 255, 0).astype(np.uint8)
    opened = cv2.morphologyEx(pour, cv2.MORPH_OPEN, _disc(0.22 * scale))  # no slivers
    np.maximum(board.copper, opened, out=board.copper)
