"""Blemishes: an open family of stains, residues, burns and foreign bodies whose look is put together from attributes.

Some combinations of attributes are held out of training: what a model finds there it has understood from words.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.synth.board import Part
from training.synth.defects import Finding, Inspection
from training.synth.surface import Layer, Surface, noise, srgb

Split = Literal["train", "heldout"]
SHAPES = ("ring", "spot", "streak", "cluster")
COLOURS = {
    "black": srgb(24, 21, 19),
    "brown": srgb(104, 62, 26),
    "white": srgb(232, 228, 216),
    "green": srgb(74, 178, 146),
}
COMPONENTS = ("resistor", "capacitor", "chip", "connector")
SITES = (
    *product(("solder_joint", "component"), COMPONENTS),
    ("board", "none"),
    ("pad", "none"),
)
VISIBLE = 0.3  # coverage from which a pixel belongs to a blemish
FAINTEST = 0.17  # mean difference of a blemish and what it covers, display values 0..1
NARROWEST = 0.8  # mm: on a smaller body nobody could tell a ring from a spot
TRIES = 10


@dataclass(frozen=True)
class Look:
    """What a blemish is described by."""

    shape: str
    colour: str
    place: str
    component: str

    def as_attributes(self) -> dict[str, str]:
        """The look as an annotation carries it."""
        return {"shape": self.shape, "colour": self.colour, "place": self.place, "component": self.component}


LOOKS = tuple(Look(shape, colour, *site) for shape, colour, site in product(SHAPES, COLOURS, SITES))
HELD_OUT = (
    Look("ring", "black", "solder_joint", "capacitor"),
    Look("ring", "black", "board", "none"),
    Look("ring", "brown", "component", "chip"),
    Look("ring", "white", "solder_joint", "resistor"),
    Look("ring", "green", "pad", "none"),
    Look("spot", "black", "pad", "none"),
    Look("spot", "brown", "solder_joint", "resistor"),
    Look("spot", "white", "component", "chip"),
    Look("spot", "green", "solder_joint", "connector"),
    Look("spot", "green", "board", "none"),
    Look("streak", "black", "solder_joint", "chip"),
    Look("streak", "brown", "board", "none"),
    Look("streak", "white", "component", "connector"),
    Look("streak", "green", "component", "capacitor"),
    Look("cluster", "black", "component", "resistor"),
    Look("cluster", "brown", "solder_joint", "connector"),
    Look("cluster", "white", "board", "none"),
    Look("cluster", "white", "solder_joint", "capacitor"),
    Look("cluster", "green", "solder_joint", "chip"),
    Look("cluster", "green", "pad", "none"),
)


def looks_of(split: Split) -> tuple[Look, ...]:
    """The combinations that a split may show."""
    return HELD_OUT if split == "heldout" else tuple(look for look in LOOKS if look not in HELD_OUT)


def put_blemish(surface: Surface, inspection: Inspection, look: Look, rng: np.random.Generator) -> Finding | None:
    """Draws a blemish on a painted board; None where no place suits or nobody would see it."""
    scale = surface.px_per_mm
    for middle, size in _places(inspection, look, rng)[:TRIES]:
        reach = 1.6 * size * scale
        low = np.floor(middle - reach).astype(int)
        side = int(2 * reach) + 2
        box = (float(low[0]), float(low[1]), float(low[0] + side), float(low[1] + side))
        if not inspection.camera.sees(box):
            continue
        share = _shape(look, side, middle - low, size * scale, rng)
        window = np.s_[low[1] : low[1] + side, low[0] : low[0] + side]
        seen = share > VISIBLE
        contrast = np.abs(np.sqrt(surface.albedo[window][seen]) - np.sqrt(COLOURS[look.colour]))
        if not seen.any() or (contrast.mean(axis=1) * share[seen]).mean() < FAINTEST or not inspection.claim(box):
            continue
        full, mask = np.zeros(surface.gloss.shape, np.float32), inspection.empty_mask()
        full[window] = share
        mask[window] = np.where(seen, 255, 0)
        grain = 1 + 0.1 * noise((side, side), 1.5, rng)
        coloured = np.zeros((*full.shape, 3), np.float32)
        coloured[window] = COLOURS[look.colour] * grain[..., None]
        gloss = 0.3 if look.colour == "brown" and rng.random() < 0.5 else 0.04
        surface.paint(full, coloured, gloss, float(rng.uniform(0.0, 0.06)))
        return Finding("blemish", mask, look.as_attributes())
    return None


def _places(inspection: Inspection, look: Look, rng: np.random.Generator) -> list[tuple[NDArray[np.float64], float]]:
    """Where a look may be, in random order: middles in pixels, radii in millimetres."""
    board, scale = inspection.board, inspection.board.px_per_mm
    places: list[tuple[NDArray[np.float64], float]] = []
    if look.place == "board":
        for _ in range(4 * TRIES):
            at, size = rng.uniform(0, board.side, 2), float(rng.uniform(0.45, 1.3))
            reach = size * scale
            boxes = np.array([part.box(scale, 0.2) for part in board.parts]).reshape(-1, 4)
            near = (boxes[:, :2] < at + reach).all(axis=1) & (boxes[:, 2:] > at - reach).all(axis=1)
            if not near.any():
                places.append((at, size))
        return places
    if look.place == "pad":
        places = [(np.array([x, y]), 0.75 * radius / scale) for x, y, radius in board.test_points]
        for part in board.parts:
            if part.dnp:
                middles = part.pad_middles(scale)
                places += [(m, 0.45 * pad.width) for m, pad in zip(middles, part.package.pads, strict=True)]
        return [places[i] for i in rng.permutation(len(places))]
    parts: list[Part] = [part for part in board.parts if part.fitted and part.package.kind == look.component]
    for part in parts:
        package = part.package
        if look.place == "component" and package.tall > 0 and min(package.body) >= NARROWEST:
            room = min(package.body) / 2
            spare = (np.array(package.body) / 2 - 0.8 * room) * rng.uniform(-1, 1, 2)
            places.append((part.to_canvas(spare[None], scale)[0], min(float(rng.uniform(0.5, 0.75)) * room, 1.4)))
        elif look.place == "solder_joint":
            index = int(rng.integers(len(package.pads)))
            pad = package.pads[index]
            outward = np.deg2rad(pad.outward_deg)
            beside = 0.0 if look.shape == "ring" else pad.length / 2 + 0.15
            at = np.array([[pad.x + beside * np.cos(outward), pad.y + beside * np.sin(outward)]])
            size = 0.5 * max(pad.length, pad.width) + 0.25 if look.shape == "ring" else float(rng.uniform(0.4, 0.8))
            places.append((part.to_canvas(at, scale)[0], size))
    return [places[i] for i in rng.permutation(len(places))]


def _shape(look: Look, side: int, middle: NDArray[np.float64], radius: float, rng: np.random.Generator) -> Layer:
    """The coverage (side, side) of a shape of a radius in pixels around a point."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    x, y = x - np.float32(middle[0]), y - np.float32(middle[1])
    ragged = noise((side, side), max(2.0, 0.35 * radius), rng)
    turn = rng.uniform(0, np.pi)
    if look.shape == "ring":
        stretch = rng.uniform(0.88, 1.12)
        distance = np.hypot(x * stretch, y / stretch) / radius
        share = np.clip(1.5 - np.abs(distance - 1 + 0.05 * ragged) / rng.uniform(0.13, 0.22), 0, 1)
    elif look.shape == "cluster":
        share = np.zeros((side, side), np.float32)
        for _ in range(int(rng.integers(7, 16))):
            dot = rng.normal(0, 0.5, 2) * radius
            size = rng.uniform(0.1, 0.24) * radius
            share = np.maximum(share, np.clip((size - np.hypot(x - dot[0], y - dot[1])) / 1.2 + 1, 0, 1))
    else:
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        flat = rng.uniform(3, 5) if look.shape == "streak" else rng.uniform(1, 1.35)
        long = 1.35 if look.shape == "streak" else 1.0
        distance = np.hypot(along / long, across * flat) / radius
        share = np.clip((1 - distance + 0.14 * ragged) * (0.2 * radius + 1), 0, 1)
    blotched = rng.uniform(0.78, 0.95) + 0.1 * noise((side, side), 3, rng)
    covered: Layer = (share * np.clip(blotched, 0.5, 1)).astype(np.float32)
    return covered
