"""The twelve classes of defects, put into a board: copper is changed, parts are changed, a surface is scratched.

What a defect shows is what was drawn: copper defects are the changed copper and CONTOUR around it, where the eye still
sees it; defects of parts are stamped while the part is painted, so a finding's mask is complete only after painting.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD
from training.crops.drawn_defects import draw_defect
from training.synth.board import Board, Box, Part
from training.synth.camera import Camera
from training.synth.paint import Finish
from training.synth.surface import Mask, Surface, fill_polygon, noise, srgb

CONTOUR = 2  # pixels around changed copper
WINDOW_MM = 4.5  # a copper defect is looked for in a window of this side
SMALLEST_WINDOW = 72  # pixels: room for a defect and what must stay clear around it
TRIES = 16
COPPER = srgb(212, 140, 92)
SCRAPED = srgb(182, 190, 172)
COPPER_PLACES = {
    "open": ("gap", "trace"),
    "short": ("bridge", "between_traces"),
    "mousebite": ("notch", "trace"),
    "spur": ("spike", "trace"),
    "spurious_copper": ("island", "between_traces"),
    "pin_hole": ("hole", "copper"),
}


@dataclass
class Finding:
    """One defect: its category, the pixels of the canvas that show it, and what can be said of it."""

    category: str
    mask: Mask
    attributes: dict[str, str]


@dataclass
class Inspection:
    """A board that defects are being put into: what the camera sees of it and where defects already are."""

    board: Board
    camera: Camera
    busy: list[Box]

    def claim(self, box: Box) -> bool:
        """Takes a box for a defect if the camera sees it and it touches no other."""
        clear = 0.4 * self.board.px_per_mm
        x1, y1, x2, y2 = box[0] - clear, box[1] - clear, box[2] + clear, box[3] + clear
        apart = all(x1 > other[2] or x2 < other[0] or y1 > other[3] or y2 < other[1] for other in self.busy)
        if not (apart and self.camera.sees(box)):
            return False
        self.busy.append(box)
        return True

    def empty_mask(self) -> Mask:
        """A mask of the canvas with nothing in it."""
        return np.zeros((self.board.side, self.board.side), np.uint8)


def put_defect(name: str, inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    """Puts a defect of any class but a scratch into a board that is not yet painted; None where it finds no place."""
    if name in COPPER_PLACES:
        return _change_copper(name, inspection, rng)
    return PART_DEFECTS[name](inspection, rng)


def _change_copper(name: str, inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    board, class_id = inspection.board, [defect.id for defect in BARE_BOARD].index(name)
    window = max(SMALLEST_WINDOW, round(WINDOW_MM * board.px_per_mm))
    covered = [part.box(board.px_per_mm, 0.15) for part in board.parts]
    covered += [(x - r, y - r, x + r, y + r) for x, y, r, *_ in board.vias + board.holes]
    for _ in range(2 * TRIES):
        left, top = (int(value) for value in rng.integers(0, board.side - window, 2))
        if not inspection.camera.sees((left, top, left + window, top + window)):
            continue
        view = np.s_[top : top + window, left : left + window]
        dark = np.where(board.copper[view] > 127, 0, 255).astype(np.uint8)
        changed = dark.copy()
        taken = np.array(covered, np.float32).reshape(-1, 4) - np.array([left, top, left, top], np.float32)
        if draw_defect(changed, class_id, taken, rng) is None:
            continue
        mask = inspection.empty_mask()
        mask[view] = np.where(changed != dark, 255, 0)
        cv2.dilate(mask, np.ones((2 * CONTOUR + 1, 2 * CONTOUR + 1), np.uint8), dst=mask)
        x, y, width, height = cv2.boundingRect(mask)
        if board.silk[mask > 0].any() or not inspection.claim((x, y, x + width, y + height)):
            continue  # under print nobody would see it
        board.copper[view][changed != dark] = 255 - changed[changed != dark]
        shape, place = COPPER_PLACES[name]
        return Finding(name, mask, {"shape": shape, "colour": "none", "place": place, "component": "none"})
    return None


def _parts(inspection: Inspection, rng: np.random.Generator, suits: Callable[[Part], bool]) -> list[Part]:
    """Parts that a defect may befall, in random order, rare packages as early as common ones."""
    parts = [part for part in inspection.board.parts if part.fitted and suits(part)]
    families = {part: rng.random() for part in sorted({part.package.family for part in parts})}
    order = rng.random(len(parts))
    return [
        parts[i] for i in sorted(range(len(parts)), key=lambda i: families[parts[i].package.family] * 0.5 + order[i])
    ]


def _extent(outline: NDArray[np.float64]) -> Box:
    (x1, y1), (x2, y2) = outline.min(axis=0), outline.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


def _bad_joint(name: str, inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    scale = inspection.board.px_per_mm
    for part in _parts(inspection, rng, lambda part: min(pad.width for pad in part.package.pads) > 0.4)[:TRIES]:
        index = int(rng.integers(len(part.package.pads)))
        outline = part.pad_corners(index, scale)
        if not inspection.claim(_extent(outline)):
            continue
        mask = inspection.empty_mask()
        if name == "insufficient_solder":  # the bare part of the pad shows it as much as the solder does
            fill_polygon(mask, outline)
        part.joints[index] = "cold" if name == "cold_solder_joint" else "thin"
        part.joint_stamps[index] = mask
        colour = "grey" if name == "cold_solder_joint" else "none"
        shape = "round" if part.package.pads[index].round else "fillet"
        kind = part.package.kind
        return Finding(name, mask, {"shape": shape, "colour": colour, "place": "solder_joint", "component": kind})
    return None


def _bridge(inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    scale = inspection.board.px_per_mm
    parts = _parts(inspection, rng, lambda part: len(part.package.pads) > 3)
    for part in (TRIES * parts)[: 2 * TRIES]:  # few parts, but many pairs of pins
        pads, middles = part.package.pads, part.pad_middles(scale)
        first = int(rng.integers(len(pads) - 1))
        near = np.linalg.norm(middles[first + 1] - middles[first]) < 2.6 * scale
        if not near or pads[first].outward_deg != pads[first + 1].outward_deg:
            continue
        outlines = np.concatenate([part.pad_corners(index, scale) for index in (first, first + 1)])
        if not inspection.claim(_extent(outlines)):
            continue
        mask = inspection.empty_mask()
        part.bridges.append((first, first + 1, mask))
        kind = part.package.kind
        return Finding(
            "solder_bridge", mask, {"shape": "bridge", "colour": "silver", "place": "pins", "component": kind}
        )
    return None


def _misaligned(inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    scale = inspection.board.px_per_mm
    for part in _parts(inspection, rng, lambda part: part.package.family in ("chip", "gull_wing", "can"))[:TRIES]:
        if not inspection.claim(part.box(scale, 0.5)):
            continue
        package, mask = part.package, inspection.empty_mask()
        part.body_stamp = mask
        small = package.family == "chip"
        shape = "shifted"
        if small and rng.random() < 0.25:
            part.on_end, shape = True, "upright"
            for index in range(len(package.pads)):
                fill_polygon(mask, part.pad_corners(index, scale))
        elif rng.random() < 0.5:
            part.turn_deg, shape = (
                float(rng.choice([-1, 1]) * (rng.uniform(12, 35) if small else rng.uniform(5, 12))),
                "turned",
            )
        far = rng.uniform(0.35, 0.65) * (package.body[1] if small else 1.3)
        if shape == "shifted":
            toward = rng.uniform(0, 2 * np.pi)
            part.shift = far * scale * np.array([np.cos(toward), np.sin(toward)])
        part.joints = ["pasted"] * len(package.pads)
        attributes = {"shape": shape, "colour": "none", "place": "component", "component": package.kind}
        return Finding("component_misalignment", mask, attributes)
    return None


def _missing(inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    scale = inspection.board.px_per_mm
    for part in _parts(inspection, rng, lambda part: part.package.family != "solder_side")[:TRIES]:
        if not inspection.claim(part.box(scale)):
            continue
        mask, (x, y) = inspection.empty_mask(), part.package.reach
        fill_polygon(mask, part.to_canvas(np.array([(-x, -y), (x, -y), (x, y), (-x, y)]), scale))
        part.fitted, part.joints = False, ["pasted"] * len(part.package.pads)
        attributes = {"shape": "footprint", "colour": "none", "place": "pads", "component": part.package.kind}
        return Finding("missing_component", mask, attributes)
    return None


PART_DEFECTS: dict[str, Callable[[Inspection, np.random.Generator], Finding | None]] = {
    "cold_solder_joint": lambda inspection, rng: _bad_joint("cold_solder_joint", inspection, rng),
    "insufficient_solder": lambda inspection, rng: _bad_joint("insufficient_solder", inspection, rng),
    "solder_bridge": _bridge,
    "component_misalignment": _misaligned,
    "missing_component": _missing,
}


def scratch(surface: Surface, finish: Finish, inspection: Inspection, rng: np.random.Generator) -> Finding | None:
    """Scratches a painted board between its components; copper shows where the scratch is deep."""
    board, scale = inspection.board, inspection.board.px_per_mm
    for _ in range(3 * TRIES):
        start, heading = rng.uniform(0, board.side, 2), rng.uniform(0, 2 * np.pi)
        headings = heading + np.linspace(0, rng.normal(0, 0.35), 40)
        step = rng.uniform(3, 13) * scale / 40
        path = start + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], axis=1) * step, axis=0)
        outer, core = inspection.empty_mask(), inspection.empty_mask()
        width = rng.uniform(0.1, 0.24) * scale
        fixed = [np.rint(path * 16).astype(np.int32)]
        cv2.polylines(outer, fixed, False, (255,), max(2, round(width)), cv2.LINE_AA, 4)
        if surface.height[outer > 0].max(initial=0) > 0.2 or not inspection.claim(_extent(path)):
            continue
        cv2.polylines(core, fixed, False, (255,), max(1, round(0.45 * width)), cv2.LINE_AA, 4)
        deep = rng.random() < 0.5
        wear = 0.65 + 0.25 * noise((board.side, board.side), 0.3 * scale, rng)
        share = (outer / 255 * np.clip(wear, 0.3, 1)).astype(np.float32)
        surface.paint(share, (finish.over_copper + SCRAPED) / 2, 0.12, -0.02)
        bared = (board.copper > 127) & (wear > 0.5)
        surface.paint(np.where(bared if deep else False, core, 0).astype(np.uint8), COPPER, 0.6)
        surface.paint(np.where(bared & deep, 0, core // 2).astype(np.uint8), SCRAPED, 0.15)
        colour = "copper" if deep and (bared & (core > 0)).sum() > 0.3 * (core > 0).sum() else "white"
        attributes = {"shape": "line", "colour": colour, "place": "board", "component": "none"}
        return Finding("scratch", outer, attributes)
    return None
