"""The packages that stand on a board, as footprints: bodies and pads in millimetres, middle at the origin, y downwards.

Sizes follow the usual land patterns (IPC-7351). How a package looks is not known here.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["resistor", "capacitor", "chip", "connector"]
Family = Literal["chip", "gull_wing", "can", "socket", "solder_side"]
RIGHT, DOWN, LEFT, UP = 0.0, 90.0, 180.0, 270.0  # degrees, clockwise, as y points down


@dataclass(frozen=True)
class Pad:
    """One land: `length` runs along `outward_deg`, away from the body; a round one has length = width."""

    x: float
    y: float
    length: float
    width: float
    outward_deg: float
    round: bool = False


@dataclass(frozen=True)
class Package:
    """A footprint; `body` is (width, height) seen from above, `tall` the height above the board (0: nothing there)."""

    name: str
    kind: Kind
    family: Family
    prefix: str
    body: tuple[float, float]
    tall: float
    pads: tuple[Pad, ...]
    lead: float = 0.0  # width of a pin

    @property
    def reach(self) -> tuple[float, float]:
        """Half of the width and height that body and pads take."""
        along = [
            (pad.length, pad.width) if pad.outward_deg in (RIGHT, LEFT) else (pad.width, pad.length)
            for pad in self.pads
        ]
        x = max(abs(pad.x) + size[0] / 2 for pad, size in zip(self.pads, along, strict=True))
        y = max(abs(pad.y) + size[1] / 2 for pad, size in zip(self.pads, along, strict=True))
        return max(x, self.body[0] / 2), max(y, self.body[1] / 2)


def _two(x: float, length: float, width: float, *, round_pad: bool = False) -> tuple[Pad, ...]:
    return (Pad(-x, 0, length, width, LEFT, round_pad), Pad(x, 0, length, width, RIGHT, round_pad))


def _small(kind: Kind, prefix: str, size: str, tall: float) -> Package:
    body, x, length, width = {
        "0402": ((1.0, 0.5), 0.55, 0.65, 0.6),
        "0603": ((1.6, 0.8), 0.88, 0.95, 0.9),
        "0805": ((2.0, 1.25), 1.1, 1.15, 1.35),
    }[size]
    return Package(f"{prefix}_{size}", kind, "chip", prefix, body, tall, _two(x, length, width))


def _row(count: int, pitch: float, offset: float, length: float, width: float, outward: float) -> tuple[Pad, ...]:
    """Pads along one side, counted against the clock as pins are."""
    places = [(i - (count - 1) / 2) * pitch for i in range(count)]
    if outward == DOWN:
        return tuple(Pad(p, offset, length, width, DOWN) for p in places)
    if outward == RIGHT:
        return tuple(Pad(offset, -p, length, width, RIGHT) for p in places)
    if outward == UP:
        return tuple(Pad(-p, -offset, length, width, UP) for p in places)
    return tuple(Pad(-offset, p, length, width, LEFT) for p in places)


def _soic(pins: int, body: float) -> Package:
    rows = _row(pins // 2, 1.27, 2.75, 1.5, 0.62, DOWN) + _row(pins // 2, 1.27, 2.75, 1.5, 0.62, UP)
    return Package(f"SOIC-{pins}", "chip", "gull_wing", "U", (body, 3.9), 1.5, rows, 0.42)


def _qfp(pins: int, pitch: float, body: float, width: float) -> Package:
    side, offset = pins // 4, body / 2 + 0.8
    pads = sum((_row(side, pitch, offset, 1.35, width, out) for out in (LEFT, DOWN, RIGHT, UP)), ())
    return Package(f"QFP-{pins}", "chip", "gull_wing", "U", (body, body), 1.2, pads, width * 0.7)


def _socket(pins: int, pitch: float) -> Package:
    width = (pins - 1) * pitch + 3.0
    tabs = (Pad(-width / 2 - 0.2, -1.5, 1.0, 2.2, LEFT), Pad(width / 2 + 0.2, -1.5, 1.0, 2.2, RIGHT))
    pads = _row(pins, pitch, 3.0, 1.7, pitch * 0.5, DOWN)
    return Package(f"SOCKET-{pins}", "connector", "socket", "J", (width, 4.6), 2.8, pads + tabs, pitch * 0.3)


def _header(pins: int) -> Package:
    pads = tuple(Pad((i - (pins - 1) / 2) * 2.54, 0, 1.75, 1.75, DOWN, True) for i in range(pins))
    return Package(f"HEADER-{pins}", "connector", "solder_side", "J", (pins * 2.54, 2.54), 0, pads)


RESISTORS = tuple(_small("resistor", "R", size, tall) for size, tall in (("0402", 0.35), ("0603", 0.45), ("0805", 0.5)))
CAPACITORS = tuple(_small("capacitor", "C", size, tall) for size, tall in (("0402", 0.5), ("0603", 0.8), ("0805", 1.0)))
SOT23 = Package(
    "SOT-23",
    "chip",
    "gull_wing",
    "Q",
    (2.9, 1.35),
    1.0,
    (Pad(-0.95, 1.2, 0.95, 0.62, DOWN), Pad(0.95, 1.2, 0.95, 0.62, DOWN), Pad(0, -1.2, 0.95, 0.62, UP)),
    0.42,
)
CANS = (
    Package("CAN-5", "capacitor", "can", "C", (5.3, 5.3), 4.5, _two(2.4, 2.6, 1.5)),
    Package("CAN-6", "capacitor", "can", "C", (6.6, 6.6), 4.8, _two(2.9, 3.0, 1.7)),
)
RADIAL = Package("RADIAL", "capacitor", "solder_side", "C", (5.0, 5.0), 0, _two(1.25, 1.8, 1.8, round_pad=True))
AXIAL = Package("AXIAL", "resistor", "solder_side", "R", (6.0, 2.2), 0, _two(3.8, 1.8, 1.8, round_pad=True))
SOICS = (_soic(8, 4.9), _soic(14, 8.65), _soic(16, 9.9))
QFPS = (_qfp(32, 0.8, 7.0, 0.48), _qfp(48, 0.5, 7.0, 0.3), _qfp(44, 0.8, 10.0, 0.48))
SOCKETS = tuple(_socket(pins, pitch) for pins, pitch in ((3, 2.0), (4, 2.0), (5, 1.5), (6, 1.25)))
HEADERS = tuple(_header(pins) for pins in (3, 4, 5, 6))
