"""Draws bare-board defects into binarised boards, so that training sees more of them than anyone labelled.

A stroke of bare board over copper is an open, a mousebite or a pin-hole, by what it does to the copper: cuts it,
nibbles at its edge, or pierces it. The same stroke of copper over bare board is a short, a spur or spurious copper,
so one set of rules serves both, with the picture inverted. A stroke that does not do what its class says is not drawn.

Copper is dark. A box reaches BOX_MARGIN pixels beyond the pixels that changed, as DeepPCB's annotators draw it
(measured: a median of 9 to 13 pixels on every side of every class).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD

Mask = NDArray[np.bool_]
Point = NDArray[np.float64]

BOX_MARGIN = 10  # pixels
CUT, BITE, HOLE = range(3)
KINDS = {"open": CUT, "mousebite": BITE, "pin_hole": HOLE, "short": CUT, "spur": BITE, "spurious_copper": HOLE}
COPPER_ADDED = ("short", "spur", "spurious_copper")
LONGEST_CUT = 60.0  # pixels: wider copper is not cut, wider gaps are not bridged
FEWEST_PIXELS = 14  # a change smaller than this nobody would see, nor a remaining crumb of copper
LEVEL = 128  # below is copper
TRIES = 16


def draw_defect(
    image: NDArray[np.uint8], class_id: int, taken_xyxy: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Draws one defect of a class into a gray image (H, W) in place.

    Args:
        image: binarised; copper dark.
        class_id: index of BARE_BOARD.
        taken_xyxy: boxes (N, 4) that the new one must not touch.

    Returns:
        its box (4,) in pixels, or None where no place was found: the image is then as before.
    """
    name = BARE_BOARD[class_id].id
    adds_copper = name in COPPER_ADDED
    solid = (image < LEVEL) != adds_copper  # what the stroke eats into: copper, or bare board
    edges = np.argwhere(_edge(solid)) if KINDS[name] != HOLE else _deep_points(solid)
    if not len(edges):
        return None
    for _ in range(TRIES):
        y, x = edges[int(rng.integers(len(edges)))]
        stroke = _propose(solid, np.array([x, y], np.float64), KINDS[name], rng)
        if stroke is None:
            continue
        change = stroke & solid
        box = _box(change)
        if box is None or not _fits(box, image.shape, taken_xyxy) or _effect(solid, change, box) != KINDS[name]:
            continue
        if KINDS[name] != HOLE and change.sum() > 4 * FEWEST_PIXELS and rng.random() < 0.3:
            scratched = _scratched(change, rng)
            if _effect(solid, scratched, box) == KINDS[name]:  # the crumbs may hold together what was cut
                change = scratched
        image[change] = 0 if adds_copper else 255
        return box.astype(np.float32)
    return None


def _edge(solid: Mask) -> Mask:
    eroded = cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=(1,))
    edge: Mask = solid & (eroded == 0)
    return edge


def _deep_points(solid: Mask) -> NDArray[np.int64]:
    depth = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 3)
    return np.argwhere(depth > 5)


def _propose(solid: Mask, start: Point, kind: int, rng: np.random.Generator) -> Mask | None:
    """A stroke that may do what `kind` says, None where the place does not allow it."""
    if kind == HOLE:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        length = rng.choice([rng.uniform(0, 6), rng.uniform(6, 24)])
        return _stroke(solid.shape, start - along * length / 2, start + along * length / 2, rng.uniform(3, 11), rng)
    inward = _inward(solid, start)
    if inward is None:
        return None
    tilt = rng.normal(0, 0.35)
    along = np.array(
        [
            inward[0] * np.cos(tilt) - inward[1] * np.sin(tilt),
            inward[0] * np.sin(tilt) + inward[1] * np.cos(tilt),
        ]
    )
    width = _run_length(solid, start, along)
    if kind == CUT:
        if width is None:
            return None
        return _stroke(solid.shape, start - 3 * along, start + (width + 3) * along, rng.uniform(3, 12), rng)
    deepest = min(18.0, 0.8 * (width if width is not None else LONGEST_CUT))
    if deepest < 4:
        return None
    if rng.random() < 0.25:  # nibbled along the edge
        along = np.array([-inward[1], inward[0]])
        reach = rng.uniform(6, 16)
        return _stroke(solid.shape, start - reach * along, start + reach * along, rng.uniform(4, 9), rng)
    return _stroke(solid.shape, start - 2 * along, start + rng.uniform(3, deepest) * along, rng.uniform(3, 9), rng)


def _inward(solid: Mask, point: Point) -> Point | None:
    """Unit vector from the edge into the solid: from the centre of a neighbourhood to that of its solid part."""
    x, y = point.astype(int)
    reach = 4
    if not (reach <= x < solid.shape[1] - reach and reach <= y < solid.shape[0] - reach):
        return None
    rows, columns = np.nonzero(solid[y - reach : y + reach + 1, x - reach : x + reach + 1])
    direction = np.array([columns.mean() - reach, rows.mean() - reach])
    length = float(np.hypot(*direction))
    return direction / length if length > 0.5 else None


def _run_length(solid: Mask, start: Point, along: Point) -> float | None:
    """How far the solid reaches from `start`; None beyond LONGEST_CUT or the image's edge."""
    steps = np.arange(1, LONGEST_CUT)
    points = np.rint(start + steps[:, None] * along).astype(int)
    inside = (points >= 0).all(axis=1) & (points[:, 0] < solid.shape[1]) & (points[:, 1] < solid.shape[0])
    for step, (x, y), valid in zip(steps, points, inside, strict=True):
        if not valid:
            return None
        if not solid[y, x]:
            return float(step)
    return None


def _stroke(shape: tuple[int, ...], start: Point, end: Point, thickness: float, rng: np.random.Generator) -> Mask:
    """An uneven brush stroke: overlapping discs along a wavering line."""
    canvas = np.zeros(shape, np.uint8)
    count = max(2, int(np.hypot(*(end - start)) / 2))
    waver = np.cumsum(rng.normal(0, 0.5, (count, 2)), axis=0)
    waver -= np.linspace(0, 1, count)[:, None] * waver[-1]  # it arrives where it should
    for place, offset in zip(np.linspace(0, 1, count), waver, strict=True):
        x, y = (start + place * (end - start) + offset).tolist()
        radius = max(1.0, thickness / 2 * rng.uniform(0.7, 1.2))
        cv2.circle(canvas, (round(x * 8), round(y * 8)), int(radius * 8), (1,), -1, shift=3)
    return canvas.astype(bool)


def _box(change: Mask) -> NDArray[np.float64] | None:
    rows, columns = np.nonzero(change)
    if len(rows) < FEWEST_PIXELS:
        return None
    tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
    box: NDArray[np.float64] = tight + np.array([-BOX_MARGIN, -BOX_MARGIN, BOX_MARGIN, BOX_MARGIN])
    return box


def _fits(box: NDArray[np.float64], shape: tuple[int, ...], taken_xyxy: NDArray[np.float32]) -> bool:
    """Whether a box lies in the image and touches no other: what it shows must be clear."""
    inside = (box[:2] >= 0).all() and box[2] <= shape[1] and box[3] <= shape[0]
    apart = ((taken_xyxy[:, :2] > box[2:]) | (taken_xyxy[:, 2:] < box[:2])).any(axis=1)
    return bool(inside and apart.all())


def _effect(solid: Mask, change: Mask, box: NDArray[np.float64]) -> int:
    """What a change does to the solid within its box: cuts it into more parts, bites into its edge, or pierces it."""
    x1, y1, x2, y2 = box.astype(int)
    before, gone = solid[y1:y2, x1:x2], change[y1:y2, x1:x2]
    around = cv2.dilate(gone.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    if before[around].all():
        return HOLE
    return CUT if _parts(before & ~gone) > _parts(before) else BITE


def _parts(solid: Mask) -> int:
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8), connectivity=4)
    return int((stats[1:, cv2.CC_STAT_AREA] >= FEWEST_PIXELS).sum())


def _scratched(change: Mask, rng: np.random.Generator) -> Mask:
    """The same change as a bundle of scratches with crumbs left between them."""
    noise = cv2.GaussianBlur(rng.normal(size=change.shape), (0, 0), rng.uniform(1.0, 2.0))
    crumbs = noise > np.quantile(noise[change], rng.uniform(0.6, 0.85))
    scratches: Mask = change & ~crumbs
    return scratches
