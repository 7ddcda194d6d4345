"""Draws board.png, a binarised line-scan picture of a bare board, and its truth, board.json in COCO format.

    python tests/data/draw_board.py

Copper is black, as line-scan cameras with back light show it. Nothing here was ever trained on: the
picture is drawn, not photographed, and belongs to no data set.
"""

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 640
COPPER, BARE = 0, 255
MARGIN = 9  # between a defect and its box
HERE = Path(__file__).parent
DEFECTS = ("open", "short", "mousebite", "spur", "spurious_copper", "pin_hole")


class Board:
    """A picture under way and the defects drawn into it."""

    def __init__(self, seed: int) -> None:
        self.image = Image.new("L", (SIZE, SIZE), BARE)
        self.draw = ImageDraw.Draw(self.image)
        self.rng = random.Random(seed)
        self.annotations: list[tuple[str, tuple[float, float, float, float]]] = []

    def trace(self, points: list[tuple[int, int]], width: int) -> None:
        """A copper track with rounded corners."""
        self.draw.line(points, fill=COPPER, width=width, joint="curve")
        for x, y in points:
            self.disc(x, y, width / 2, COPPER)

    def pad(self, x: int, y: int, radius: int, hole: int) -> None:
        """A round pad, drilled if `hole` is not 0."""
        self.disc(x, y, radius, COPPER)
        if hole:
            self.disc(x, y, hole, BARE)

    def disc(self, x: float, y: float, radius: float, level: int) -> None:
        """A filled circle."""
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=level)

    def blob(self, x: float, y: float, reach_x: float, reach_y: float, level: int) -> None:
        """An irregular patch."""
        for _ in range(7):
            dx, dy = self.rng.uniform(-0.5, 0.5) * reach_x, self.rng.uniform(-0.5, 0.5) * reach_y
            self.disc(x + dx, y + dy, self.rng.uniform(0.35, 0.55) * min(reach_x, reach_y), level)

    def mark(self, name: str, x: float, y: float, reach_x: float, reach_y: float) -> None:
        """Notes a defect of that reach around its centre."""
        box = (x - reach_x - MARGIN, y - reach_y - MARGIN, x + reach_x + MARGIN, y + reach_y + MARGIN)
        self.annotations.append((name, box))


def draw(seed: int = 7) -> Board:
    """The board with eight defects."""
    board = Board(seed)
    for index in range(7):  # a bus that bends, 12 pixels wide, 26 apart
        y = 70 + 26 * index
        board.trace([(0, y), (250 - 14 * index, y), (330 - 14 * index, y + 80), (640, y + 80)], 12)
    for index in range(8):  # a row of drilled pads with tails
        x = 60 + 74 * index
        board.trace([(x, 430), (x, 520)], 10)
        board.pad(x, 430, 22, 9)
        board.pad(x, 530, 15, 0)
    board.draw.rounded_rectangle((60, 570, 400, 640), 14, fill=COPPER)
    board.trace([(430, 600), (640, 600)], 16)

    board.blob(90, 96, 9, 16, BARE)
    board.mark("open", 90, 96, 6, 9)
    board.blob(500, 254, 9, 15, BARE)
    board.mark("open", 500, 254, 6, 9)
    board.draw.line([(176, 122), (178, 148)], fill=COPPER, width=5)
    board.mark("short", 177, 135, 4, 10)
    board.draw.line([(430, 202), (432, 228)], fill=COPPER, width=6)
    board.mark("short", 431, 215, 4, 10)
    board.blob(560, 593, 11, 8, BARE)
    board.mark("mousebite", 560, 594, 7, 6)
    board.draw.polygon([(356, 468), (373, 473), (370, 481), (356, 484)], fill=COPPER)
    board.mark("spur", 365, 476, 7, 7)
    board.blob(500, 360, 14, 10, COPPER)
    board.mark("spurious_copper", 500, 360, 10, 8)
    board.blob(200, 606, 10, 8, BARE)
    board.mark("pin_hole", 200, 606, 8, 6)
    return board


def truth(board: Board) -> dict[str, object]:
    """The defects as a COCO data set."""
    return {
        "images": [{"id": 1, "file_name": "board.png", "width": SIZE, "height": SIZE}],
        "categories": [{"id": index, "name": name} for index, name in enumerate(DEFECTS)],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": DEFECTS.index(name),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for number, (name, (x1, y1, x2, y2)) in enumerate(board.annotations, start=1)
        ],
    }


if __name__ == "__main__":
    drawn = draw()
    drawn.image.save(HERE / "board.png", optimize=True)
    (HERE / "board.json").write_text(json.dumps(truth(drawn), indent=1) + "\n")
