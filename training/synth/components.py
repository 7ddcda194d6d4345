"""The bodies of components, as patches: what a package looks like from above, with its pins."""

from collections.abc import Callable

import numpy as np

from training.synth.packages import DOWN, LEFT, RIGHT, UP, Family, Package
from training.synth.surface import Colour, Patch, noise, srgb

METAL = srgb(208, 207, 200)
CERAMIC = srgb(206, 203, 194)
GLAZE = srgb(30, 30, 33)
NUMERALS = srgb(222, 222, 216)
DIELECTRICS = (srgb(172, 146, 112), srgb(150, 122, 92), srgb(126, 104, 86), srgb(186, 168, 140))
PLASTIC = (srgb(40, 40, 42), srgb(50, 49, 50), srgb(34, 35, 38))
LASER = (srgb(168, 166, 158), srgb(132, 131, 126), srgb(205, 203, 196))
ALUMINIUM = srgb(206, 208, 212)
INK = srgb(28, 28, 34)
HOUSINGS = (srgb(226, 221, 205), srgb(38, 38, 40), srgb(238, 236, 230), srgb(205, 190, 150))
HOLLOW = 0.45  # how bright the inside of a housing is beside its outside
LETTERS = "ABCDEFGHKLMNPRSTUVWX"


def draw_body(package: Package, px_per_mm: float, rng: np.random.Generator, *, on_end: bool = False) -> Patch | None:
    """The component of a package, None where nothing stands on this side; `on_end` shows a chip standing upright."""
    if package.family == "solder_side":
        return None
    x, y = package.reach
    patch = Patch(2 * x + 0.4, 2 * y + 0.4, px_per_mm)
    if on_end:
        _standing(patch, package, rng)
    else:
        DRAWN[package.family](patch, package, rng)
    return patch


def _chip(patch: Patch, package: Package, rng: np.random.Generator) -> None:
    half_x, half_y = package.body[0] / 2, package.body[1] / 2
    cap = package.body[0] * rng.uniform(0.18, 0.25)
    shape = (patch.tint.shape[0], patch.tint.shape[1])
    if package.kind == "resistor":
        patch.paint(patch.box(-half_x, -half_y, half_x, half_y, 0.04), CERAMIC, 0.1, package.tall)
        patch.paint(patch.box(cap - half_x, 0.05 - half_y, half_x - cap, half_y - 0.05, 0.02), GLAZE, 0.16)
        if package.body[1] > 0.7:
            text = "".join(rng.choice(list("0123456789"), 3)) if rng.random() < 0.8 else "0"
            patch.paint(patch.text(text, 0, 0, 0.5 * package.body[1], 0.09 * package.body[1]), NUMERALS, 0.1)
    else:
        colour = DIELECTRICS[int(rng.integers(len(DIELECTRICS)))]
        mottled = colour * (1 + 0.06 * noise(shape, 2, rng))[..., None]
        patch.paint(patch.box(-half_x, -half_y, half_x, half_y, 0.1), mottled, 0.12, package.tall)
    for side in (-1, 1):
        inner, outer = side * (half_x - cap), side * half_x
        mask = patch.box(min(inner, outer), -half_y, max(inner, outer), half_y, 0.06)
        patch.paint(mask, METAL, 0.8, package.tall + 0.02)


def _standing(patch: Patch, package: Package, rng: np.random.Generator) -> None:
    """A tombstone: its upper end cap faces the camera, its side leans towards the empty pad."""
    end, half_y = package.body[0] / 2, package.body[1] / 2
    lean = rng.uniform(0.15, 0.4) * package.body[0]
    side = GLAZE if package.kind == "resistor" else DIELECTRICS[0]
    patch.paint(patch.box(end - package.tall - lean, -half_y, end, half_y, 0.05), side, 0.1, 0.7 * package.body[0])
    patch.paint(patch.box(end - package.tall - 0.05, -half_y, end, half_y, 0.05), METAL, 0.75, 0.9 * package.body[0])


def _gull_wing(patch: Patch, package: Package, rng: np.random.Generator) -> None:
    _pins(patch, package)
    half_x, half_y = package.body[0] / 2, package.body[1] / 2
    colour = PLASTIC[int(rng.integers(len(PLASTIC)))]
    shape = (patch.tint.shape[0], patch.tint.shape[1])
    grain = colour * (1 + 0.07 * noise(shape, 1, rng))[..., None]
    patch.paint(patch.box(-half_x, -half_y, half_x, half_y, 0.08), grain, 0.07, 0.55 * package.tall)
    bevel = 0.06 + 0.02 * package.tall
    top = patch.box(bevel - half_x, bevel - half_y, half_x - bevel, half_y - bevel, 0.06)
    patch.paint(top, grain, 0.09, package.tall)
    ink = LASER[int(rng.integers(len(LASER)))]
    if len(package.pads) == 3:
        code = "".join(rng.choice(list(LETTERS + "123456789"), 2)) + str(rng.integers(10))
        patch.paint(patch.text(code, 0, 0, 0.7, 0.09), ink, 0.05)
        return
    dot = (0.75 - half_x, half_y - 0.75)
    patch.paint(patch.disc(*dot, 0.3), colour * 1.35, 0.3, package.tall - 0.05)
    lines = [
        "".join(rng.choice(list(LETTERS), 2)) + "".join(rng.choice(list("0123456789"), 4)),
        f"{rng.integers(18, 26)}{rng.integers(10, 52)}{rng.choice(list(LETTERS))}",
    ]
    if package.body[1] > 5:
        lines.insert(1, "".join(rng.choice(list(LETTERS + "0123456789"), 5)))
    size = min(0.85, package.body[1] / 5)
    for i, line in enumerate(lines):
        y = (i - (len(lines) - 1) / 2) * 1.7 * size - 0.2
        patch.paint(patch.text(line, 0, y, size, 0.1), ink, 0.05)


def _pins(patch: Patch, package: Package) -> None:
    """Bent leads from the body's sides to near the ends of their pads, a side at a time."""
    half = package.lead / 2
    x, y = patch.axes_mm()
    for outward in (RIGHT, DOWN, LEFT, UP):
        pads = [pad for pad in package.pads if pad.outward_deg == outward and pad.width < 1.5]
        if not pads:
            continue
        horizontal, sign = outward in (LEFT, RIGHT), 1 if outward in (RIGHT, DOWN) else -1
        start = (package.body[0] if horizontal else package.body[1]) / 2 - 0.1
        toe = abs(pads[0].x if horizontal else pads[0].y) + pads[0].length / 2 - 0.28
        low, high = sorted((sign * start, sign * toe))
        mask = patch.empty_mask()
        for pad in pads:
            if horizontal:
                patch.box(low, pad.y - half, high, pad.y + half, 0.03, mask)
            else:
                patch.box(pad.x - half, low, pad.x + half, high, 0.03, mask)
        way = sign * (x if horizontal else y) - start
        shoulder = 0.25 + 0.4 * package.tall * np.clip(1.3 - 1.3 * way / (0.45 * (toe - start)), 0, 1) ** 1.2
        patch.paint(mask, METAL, 0.85, np.broadcast_to(shoulder, mask.shape).astype(np.float32))


def _can(patch: Patch, package: Package, rng: np.random.Generator) -> None:
    half = package.body[0] / 2
    for side in (-1, 1):
        low, high = sorted((side * (half - 0.2), side * (half + 0.55)))
        patch.paint(patch.box(low, -0.4, high, 0.4), METAL, 0.85, 0.25)
    patch.paint(patch.box(-half, -half, half, half, 0.5), PLASTIC[2], 0.1, 0.9)
    patch.paint(patch.box(0, -half, half, half), PLASTIC[2], 0.1, 0.9)
    radius = half - 0.2
    x, y = patch.axes_mm()
    distance = np.hypot(x, y) / radius
    dome = package.tall - 0.9 * np.clip((distance - 0.9) / 0.1, 0, 1) ** 2
    groove = 0.08 * np.exp(-(((distance - 0.86) / 0.03) ** 2))
    can = patch.disc(0, 0, radius)
    brushed = 1 + 0.03 * noise((patch.tint.shape[0], patch.tint.shape[1]), 1, rng)
    patch.paint(can, ALUMINIUM * brushed[..., None], 0.6, (dome - groove).astype(np.float32))
    patch.paint(np.where(x < -0.45 * radius, patch.disc(0, 0, 0.9 * radius), 0).astype(np.uint8), INK, 0.15)
    for i, line in enumerate(
        (str(rng.choice(["10", "22", "47", "100", "220"])), str(rng.choice(["16V", "25V", "35V"])))
    ):
        patch.paint(patch.text(line, 0.2 * radius, (i - 0.5) * 0.52 * radius, 0.34 * radius, 0.12), INK, 0.15)


def _socket(patch: Patch, package: Package, rng: np.random.Generator) -> None:
    colour: Colour = HOUSINGS[int(rng.integers(len(HOUSINGS)))]
    half_x, half_y = package.body[0] / 2, package.body[1] / 2
    _pins(patch, package)
    for pad in package.pads:
        if pad.outward_deg != DOWN:
            side = 1 if pad.x > 0 else -1
            low, high = sorted((side * (half_x - 0.2), pad.x + side * 0.3))
            patch.paint(patch.box(low, pad.y - 0.8, high, pad.y + 0.8), METAL, 0.85, 0.3)
    grain = colour * (1 + 0.03 * noise((patch.tint.shape[0], patch.tint.shape[1]), 1, rng))[..., None]
    patch.paint(patch.box(-half_x, -half_y, half_x, half_y, 0.1), grain, 0.1, package.tall)
    inner = patch.box(0.5 - half_x, 0.9 - half_y, half_x - 0.5, half_y - 1.2, 0.1)
    patch.paint(inner, grain * HOLLOW, 0.05, package.tall - 1.6)
    contacts = patch.empty_mask()
    for pad in package.pads:
        if pad.outward_deg == DOWN:
            half = package.lead / 2
            patch.box(pad.x - half, 1.0 - half_y, pad.x + half, half_y - 1.6, 0, contacts)
    patch.paint(contacts, METAL, 0.8, package.tall - 1.2)


DRAWN: dict[Family, Callable[[Patch, Package, np.random.Generator], None]] = {
    "chip": _chip,
    "gull_wing": _gull_wing,
    "can": _can,
    "socket": _socket,
}
