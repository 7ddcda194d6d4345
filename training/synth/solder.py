"""Solder on one pad, as a patch whose x axis points away from the component: good, matte, cold, thin, pasted, a bridge.

A good fillet climbs concavely from the pad's end to the component and shines; a matte one is as smooth and sound, only
dull; a cold one is lumpy, grainy, dark and cracked; a thin one leaves part of the pad bare.
"""

from typing import Literal

import numpy as np

from training.synth.packages import Package, Pad
from training.synth.surface import Layer, Mask, Patch, noise, srgb

State = Literal["good", "matte", "cold", "thin", "pasted", "bare"]

TIN = srgb(214, 214, 210)
DULL = srgb(176, 175, 168)
GREY = srgb(128, 125, 117)
CRACK = srgb(34, 30, 26)
BARE = srgb(158, 122, 78)
LEAD = srgb(222, 220, 212)
SHINE = {"good": 0.95, "matte": 0.4, "cold": 0.16, "thin": 0.9, "pasted": 0.75}
MARGIN = 0.25  # mm around the pad that a patch may use


def joint(pad: Pad, package: Package, state: State, px_per_mm: float, rng: np.random.Generator) -> Patch | None:
    """The solder of one joint; None on a bare pad."""
    if state == "bare":
        return None
    patch = Patch(pad.length + MARGIN, pad.width + MARGIN, px_per_mm)
    x, y = patch.axes_mm()
    swell = rng.uniform(-0.04, 0.06)
    coverage = _coverage(patch, pad, state, swell, rng)
    if pad.round:
        radius = np.hypot(x, y) / (pad.length / 2)
        height = 0.75 * np.clip(1 - radius, 0, 1) ** 1.35
    else:
        across = np.clip(1 - np.abs(y / (pad.width / 2)) ** 3, 0, 1)
        inner = package.body[0] / 2 - abs(pad.x) if package.family == "chip" else -pad.length / 2
        climb = np.clip((pad.length / 2 - x) / (pad.length / 2 - inner), 0, 1)
        if package.family == "chip" and state != "pasted":
            height = 0.75 * package.tall * climb**1.8 * (0.3 + 0.7 * across)
        else:
            along = np.clip(1 - np.abs(x / (pad.length / 2)) ** 3, 0, 1)
            height = 0.16 * np.sqrt(along * across)
    if state == "thin":
        height = height * np.float32(0.35)
    colour: Layer = np.broadcast_to(TIN, (*coverage.shape, 3)).astype(np.float32)
    shape = (coverage.shape[0], coverage.shape[1])
    if state == "cold":
        lumps = noise(shape, 0.14 * px_per_mm, rng)
        grain = noise(shape, 1.2, rng)
        height = 0.6 * height + 0.12 + 0.07 * lumps + 0.02 * grain
        shade = 0.72 + 0.2 * lumps + 0.2 * grain
        colour = (GREY * np.clip(shade, 0.25, 1.5)[..., None]).astype(np.float32)
    elif state == "matte":
        colour = (DULL * (1 + 0.03 * noise(shape, 1.5, rng))[..., None]).astype(np.float32)
    else:
        height = height + 0.006 * noise(shape, 0.2 * px_per_mm, rng)
    if state == "thin":
        pad_mask = patch.disc(0, 0, pad.length / 2) if pad.round else _box(patch, pad)
        patch.paint(pad_mask, BARE, 0.25, 0.0)
    patch.paint(coverage, colour, SHINE[state], np.broadcast_to(height, shape).astype(np.float32))
    if pad.round:
        patch.paint(patch.disc(0, 0, 0.33), LEAD, 0.7, 0.95)
    if state == "cold":
        _crack(patch, pad, package, rng)
    return patch


def bridge(gap_mm: float, width_mm: float, px_per_mm: float, rng: np.random.Generator) -> Patch:
    """A blob of solder between two pins whose middles are `gap_mm` apart along x."""
    patch = Patch(gap_mm + 1.2 * width_mm + 0.2, 2.4 * width_mm + 0.2, px_per_mm)
    x, y = patch.axes_mm()
    waist = rng.uniform(0.34, 0.6)
    lean = rng.uniform(-0.35, 0.35) * width_mm
    bend = np.clip(np.abs(x) / (gap_mm / 2), 0, 1.4)
    half = width_mm * (waist + (0.62 - waist) * bend**2) * np.clip(1.25 - 0.35 * bend, 0.2, 1.2)
    edge = np.clip((gap_mm / 2 + 0.45 * width_mm - np.abs(x)) * 4, 0, 1)
    profile = np.clip(1 - (np.abs(y - lean * (1 - bend**2)) / (half + 1e-3)) ** 2, 0, 1) * edge
    coverage = np.clip(profile * 5, 0, 1).astype(np.float32)
    height = (0.34 * np.sqrt(profile) + 0.006 * noise((len(y), x.shape[1]), 4, rng)).astype(np.float32)
    patch.paint(coverage, TIN, SHINE["good"], height)
    return patch


def _box(patch: Patch, pad: Pad) -> Mask:
    return patch.box(-pad.length / 2, -pad.width / 2, pad.length / 2, pad.width / 2)


def _coverage(patch: Patch, pad: Pad, state: State, swell: float, rng: np.random.Generator) -> Layer:
    length, width = pad.length / 2 + swell / 2, pad.width / 2 + swell / 2
    if pad.round:
        coverage = patch.disc(0, 0, length).astype(np.float32) / 255
    else:
        coverage = patch.box(-length, -width, length, width, 0.3 * pad.width).astype(np.float32) / 255
    if state == "thin":
        x, y = patch.axes_mm()
        ragged = 0.06 * noise((coverage.shape[0], coverage.shape[1]), 0.25 * patch.scale, rng)
        if pad.round:  # a sector and the rim stay bare
            toward = rng.uniform(0, 2 * np.pi)
            bare = np.cos(toward) * x + np.sin(toward) * y + ragged > rng.uniform(-0.1, 0.2) * pad.length
            bare |= np.hypot(x, y) + ragged > 0.39 * pad.length
        else:
            bare = x + ragged > pad.length * rng.uniform(-0.2, 0.05)
            bare |= np.abs(y) + ragged > 0.42 * pad.width
        coverage = coverage * ~bare
    return coverage.astype(np.float32)


def _crack(patch: Patch, pad: Pad, package: Package, rng: np.random.Generator) -> None:
    """A dark, jagged line where the solder has parted from the lead or the component."""
    x, y = patch.axes_mm()
    shape = (patch.tint.shape[0], patch.tint.shape[1])
    jag = 0.07 * noise(shape, 0.16 * patch.scale, rng)
    if pad.round:
        distance = np.abs(np.hypot(x, y) - 0.42 + jag)
        start = rng.uniform(0, 2 * np.pi)
        open_side = np.cos(np.arctan2(y, x) - start) > rng.uniform(-0.8, 0.2)
    else:
        edge = package.body[0] / 2 - abs(pad.x) if package.family == "chip" else 0.0
        distance = np.abs(x - edge - rng.uniform(0.06, 0.16) + jag)
        open_side = np.ones(shape, bool)
    line = np.clip(1.6 - distance / 0.035, 0, 1) * open_side * patch.coverage
    patch.paint(line.astype(np.float32), CRACK, 0.0)
