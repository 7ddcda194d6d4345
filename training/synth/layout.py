"""Places parts, test points, fiducials and holes on an empty board, with pads and print; nothing overlaps."""

import numpy as np

from training.synth.board import Board, Part
from training.synth.packages import (
    AXIAL,
    CANS,
    CAPACITORS,
    HEADERS,
    QFPS,
    RADIAL,
    RESISTORS,
    SOCKETS,
    SOICS,
    SOT23,
    Package,
)
from training.synth.silkscreen import draw_outline, write, write_reference

MATTE_SHARE = 0.06  # of sound joints
DNP_SHARE = 0.05  # of small parts
CLEAR = 0.35  # mm between neighbours


def lay_out(side: int, px_per_mm: float, rng: np.random.Generator) -> Board:
    """Places parts, fiducials, holes and test points on an empty board; copper is only what pads need."""
    board = Board(side, px_per_mm)
    _place_round_things(board, rng)
    wishes: list[Package] = [*rng.choice(np.array(QFPS, object), rng.integers(0, 2))]
    wishes += [*rng.choice(np.array(SOICS, object), rng.integers(1, 3))]
    wishes += [*rng.choice(np.array(CANS, object), rng.integers(0, 3))]
    wishes += [*rng.choice(np.array(SOCKETS, object), rng.integers(0, 2))]
    wishes += [*rng.choice(np.array(HEADERS, object), rng.integers(0, 2))]
    wishes += [RADIAL] * int(rng.integers(0, 3)) + [AXIAL] * int(rng.integers(0, 2)) + [SOT23] * int(rng.integers(1, 5))
    numbers = {prefix: int(rng.integers(1, 60)) for prefix in "RCUQJ"}
    for package in wishes:
        _place_row(board, package, 1, numbers, rng)
    small = np.array(RESISTORS[1:] + CAPACITORS[1:] + RESISTORS + CAPACITORS, object)
    for _ in range(int(rng.integers(9, 17))):
        package = small[rng.integers(len(small))]
        _place_row(board, package, int(rng.choice([1, 1, 2, 3, 4, 5])), numbers, rng)
    return board


def _place_row(board: Board, package: Package, count: int, numbers: dict[str, int], rng: np.random.Generator) -> None:
    """A row of equal parts side by side at the first free place of some; DNP now and then."""
    scale, step = board.px_per_mm, 2 * package.reach[1] + float(rng.uniform(0.45, 1.1))
    for _ in range(12):
        angle = float(rng.choice([0.0, 90.0, 180.0, 270.0]))
        at = np.round(rng.uniform(0.0, board.side, 2) / (0.25 * scale)) * 0.25 * scale
        along = np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))]) * step * scale
        row = [
            Part(package, at + (i - (count - 1) / 2) * along, angle, "", int(rng.integers(1 << 31)), [])
            for i in range(count)
        ]
        if all(board.is_free(part.box(scale, CLEAR)) for part in row):
            break
    else:
        return
    letters_above = rng.random() < 0.5
    for part in row:
        part.reference = f"{package.prefix}{numbers[package.prefix]}"
        numbers[package.prefix] += 1
        box = part.box(scale)
        lettered = min(box) > 0.12 * board.side and max(box) < 0.88 * board.side  # the picture must show the word DNP
        may_be_left_out = len(package.pads) < 9 and package.family != "can" and lettered
        part.dnp = bool(rng.random() < DNP_SHARE) and may_be_left_out
        part.fitted = not part.dnp
        draws = rng.random(len(package.pads))
        part.joints = ["bare" if part.dnp else "matte" if draw < MATTE_SHARE else "good" for draw in draws]
        board.hard_negatives["matte_joint"] += part.joints.count("matte")
        board.hard_negatives["close_pins"] += len(package.pads) - 1 if package.family == "gull_wing" else 0
        board.parts.append(part)
        for index in range(len(package.pads)):
            board.draw_pad(part.pad_corners(index, scale), part.pad_corners(index, scale, 0.07))
    board.taken += [part.box(scale, 0.25) for part in row]
    for part in row:
        draw_outline(board, part, rng)
        write_reference(board, part, letters_above)


def _place_round_things(board: Board, rng: np.random.Generator) -> None:
    scale = board.px_per_mm
    for name, count, copper, opening in (
        ("hole", int(rng.random() < 0.3), 2.6, 2.6),
        ("fiducial", int(rng.integers(0, 2)), 0.5, 1.3),
        ("test_point", int(rng.integers(1, 5)), float(rng.uniform(0.5, 0.85)), 0.0),
    ):
        for _ in range(count):
            reach = max(copper, opening) * scale
            x, y = (float(value) for value in rng.uniform(0.08, 0.92, 2) * board.side)
            box = (x - reach, y - reach, x + reach, y + reach)
            if not board.is_free(box):
                continue
            board.taken.append(box)
            board.draw_disc(board.copper, x, y, copper * scale)
            board.draw_disc(board.openings, x, y, max(opening, copper + 0.06) * scale)
            if name == "hole":
                board.holes.append((x, y, 1.6 * scale))
            elif name == "test_point":
                board.test_points.append((x, y, copper * scale))
                board.hard_negatives["test_point"] += 1
                write(board, f"TP{rng.integers(1, 30)}", x, y - (copper + 0.9) * scale)
