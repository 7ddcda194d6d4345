"""Paints a board into the layers of a surface: laminate, copper, solder mask, silkscreen, solder, components."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.synth.board import Board, Part
from training.synth.components import draw_body
from training.synth.packages import Package
from training.synth.solder import bridge, joint
from training.synth.surface import Colour, Mask, Patch, Surface, noise, srgb

LAMINATE = srgb(150, 134, 92)
BARREL = srgb(14, 12, 10)
COPPER_MM = 0.035
SILK_MM = 0.02
MOULDS = 3


@dataclass(frozen=True)
class Finish:
    """The colours of a board: solder mask over laminate and over copper, silkscreen, plated pads."""

    name: str
    over_laminate: Colour
    over_copper: Colour
    silk: Colour
    pad: Colour


TINNED, GILDED = srgb(196, 196, 190), srgb(222, 184, 108)
WHITE, CREAM = srgb(228, 229, 222), srgb(224, 216, 184)
MASKS = (
    ("green", srgb(14, 70, 40), srgb(34, 108, 60)),
    ("green", srgb(22, 72, 34), srgb(54, 116, 54)),
    ("green", srgb(10, 58, 44), srgb(24, 100, 74)),
    ("blue", srgb(14, 40, 92), srgb(30, 74, 146)),
    ("black", srgb(20, 21, 23), srgb(42, 42, 44)),
    ("red", srgb(104, 20, 22), srgb(150, 42, 38)),
)
MASK_ODDS = (0.26, 0.2, 0.16, 0.16, 0.11, 0.11)


def draw_finish(rng: np.random.Generator) -> Finish:
    """One of the usual combinations, slightly varied."""
    name, dark, light = MASKS[int(rng.choice(len(MASKS), p=MASK_ODDS))]
    vary = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    pad = GILDED if rng.random() < 0.45 else TINNED
    return Finish(name, dark * vary, light * vary, CREAM if rng.random() < 0.15 else WHITE, pad)


def paint_board(board: Board, finish: Finish, rng: np.random.Generator) -> Surface:
    """The surface of a board; the stamps of its parts are filled on the way."""
    surface = Surface.bare(board.side, board.px_per_mm)
    smooth = cv2.GaussianBlur(board.copper, (0, 0), 0.6)
    copper = smooth.astype(np.float32) / 255
    size = (board.side, board.side)
    cloud = 1 + noise(size, 0.12 * board.side, rng) * 0.04 + noise(size, 2, rng) * 0.025
    shades = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    mask_shades = finish.over_laminate + (finish.over_copper - finish.over_laminate) * shades
    cv2.multiply(mask_shades[smooth], cv2.merge([cloud, cloud, cloud]), dst=surface.albedo)
    surface.gloss[:] = 0.1
    cv2.GaussianBlur(copper * np.float32(COPPER_MM), (0, 0), 1.2, dst=surface.height)
    surface.paint(board.openings, LAMINATE, 0.08, -0.02)
    surface.paint(np.minimum(board.openings, smooth).astype(np.uint8), finish.pad, 0.78)
    _paint_vias(surface, board, finish)
    silk = np.where(board.openings > 40, 0, board.silk).astype(np.uint8)
    surface.paint(silk, finish.silk, 0.12, SILK_MM)
    for x, y, radius in board.holes:
        hole = np.zeros((board.side, board.side), np.uint8)
        board.draw_disc(hole, x, y, radius)
        surface.paint(hole, BARREL, 0.0, -1.0)
    for part in board.parts:
        _paint_part(surface, part)
    return surface


def _paint_vias(surface: Surface, board: Board, finish: Finish) -> None:
    ring, drill, lid = (np.zeros((board.side, board.side), np.uint8) for _ in range(3))
    for x, y, radius, tented in board.vias:
        board.draw_disc(lid if tented else ring, x, y, radius * (0.55 if tented else 1.0))
        if not tented:
            board.draw_disc(drill, x, y, radius * 0.5)
    surface.paint(ring, finish.pad, 0.7)
    surface.paint(lid, finish.over_laminate * 0.7, 0.14, -0.05)
    surface.paint(drill, BARREL, 0.05, -0.3)


def _paint_part(surface: Surface, part: Part) -> None:
    rng = np.random.default_rng(part.seed)
    scale, package = surface.px_per_mm, part.package
    middles = part.pad_middles(scale)
    moulds: dict[tuple[object, ...], Patch | None] = {}  # equal joints of a part come in a few shapes
    for index, (pad, state) in enumerate(zip(package.pads, part.joints, strict=True)):
        mould = (state, pad.length, pad.width, index % MOULDS)
        if mould not in moulds:
            moulds[mould] = joint(pad, package, state, scale, np.random.default_rng((part.seed, index)))
        solder = moulds[mould]
        if solder is not None:
            x, y = middles[index]
            stamp = part.joint_stamps.get(index)
            surface.lay(solder, float(x), float(y), part.angle_deg + pad.outward_deg, stamp)
    _paint_body(surface, part, package, rng)
    for first, second, stamp in part.bridges:
        between = middles[second] - middles[first]
        outward = np.deg2rad(part.angle_deg + package.pads[first].outward_deg)
        reach = 0.0 if package.pads[first].round else 0.22 * package.pads[first].length * scale
        x, y = (middles[first] + middles[second]) / 2 + reach * np.array([np.cos(outward), np.sin(outward)])
        blob = bridge(float(np.linalg.norm(between)) / scale, package.pads[first].width, scale, rng)
        surface.lay(blob, float(x), float(y), float(np.rad2deg(np.arctan2(between[1], between[0]))), stamp)


def _paint_body(surface: Surface, part: Part, package: Package, rng: np.random.Generator) -> None:
    if not part.fitted:
        return
    body = draw_body(package, surface.px_per_mm, rng, on_end=part.on_end)
    if body is None:
        return
    cover: Mask | None = None
    if part.joint_stamps or part.body_stamp is not None:
        cover = np.zeros(surface.gloss.shape, np.uint8)
    x, y = part.middle + part.shift
    surface.lay(body, float(x), float(y), part.angle_deg + part.turn_deg, cover)
    if cover is not None:
        for stamp in part.joint_stamps.values():
            stamp[cover > 127] = 0
    if cover is not None and part.body_stamp is not None:
        np.maximum(part.body_stamp, cover, out=part.body_stamp)
