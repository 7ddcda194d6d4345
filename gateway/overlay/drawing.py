"""Draws boxes, masks and labels into a picture; the font lies beside, so that Chinese is readable everywhere.

Knows nothing of answers and classes.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from gateway.overlay.labels import place_labels

FONT = "wqy-microhei.ttf"
FONT_SHARE = 0.018  # of the picture's shorter side
FONT_PIXELS = (12, 40)
LINE_SHARE = 0.003  # likewise
MASK_OPACITY = 0.45
MAX_COLUMNS = 24  # of a label's words, a Chinese character taking two; a whole sentence would hide the board
MAX_LABELS = 300  # further boxes stay without: nobody could read them
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BRIGHT = 150  # a luma from which black letters are easier to read than white ones


@dataclass(frozen=True)
class Mark:
    """One thing found: its box and outlines in pixels, what stands beside it, and colours as #rrggbb."""

    box_xyxy: tuple[float, float, float, float]
    words: str
    score: float
    box_colour: str
    mask_colour: str
    polygons: Sequence[Sequence[tuple[float, float]]] = ()


def draw(image: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """The picture as RGB with every mark, the first on top; the first MAX_LABELS carry a label.

    What is RGB already is drawn into, not copied.
    """
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if not marks:
        return picture
    side = min(picture.size)
    font = _font(min(max(round(side * FONT_SHARE), FONT_PIXELS[0]), FONT_PIXELS[1]))
    line = max(1, round(side * LINE_SHARE))
    for mark in marks:
        if mark.polygons:
            _cover(picture, mark)
    pen = ImageDraw.Draw(picture)
    for mark in reversed(marks):
        x1, y1, x2, y2 = mark.box_xyxy
        pen.rectangle((x1 - line, y1 - line, x2 + line, y2 + line), outline=mark.box_colour, width=line)
    labelled = marks[:MAX_LABELS]
    texts = [f"{_shortened(mark.words)} {mark.score:.2f}" for mark in labelled]
    ascent, descent = font.getmetrics()
    sizes = [(round(font.getlength(text)) + 6, ascent + descent) for text in texts]
    boxes = np.array([mark.box_xyxy for mark in labelled], np.float32)
    corners = place_labels(boxes, sizes, picture.size).tolist()
    rows = list(zip(labelled, texts, corners, sizes, strict=True))
    for mark, _, (x, y), (width, height) in rows:  # a line to a label that had to move away
        x1, y1, x2, y2 = mark.box_xyxy
        near = (min(max(x, x1), x2), min(max(y, y1), y2))
        to = (min(max(near[0], x), x + width), min(max(near[1], y), y + height))
        if max(abs(near[0] - to[0]), abs(near[1] - to[1])) > height:
            pen.line((*near, *to), fill=mark.box_colour, width=line)
    for mark, text, (x, y), (width, height) in reversed(rows):
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=mark.box_colour)
        pen.text((x + 3, y), text, fill=_ink(mark.box_colour), font=font)
    return picture


def _cover(picture: Image.Image, mark: Mark) -> None:
    """Lays the colour over the outlines, which stays within their bounds: a picture's worth of memory is not needed."""
    points = np.concatenate([np.asarray(polygon) for polygon in mark.polygons])
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    right, bottom = (np.ceil(points.max(axis=0)).astype(int) + 1).tolist()
    mask = Image.new("L", (right - left, bottom - top))
    pen = ImageDraw.Draw(mask)
    for polygon in mark.polygons:
        pen.polygon([(x - left, y - top) for x, y in polygon], fill=round(255 * MASK_OPACITY))
    picture.paste(mark.mask_colour, (left, top, right, bottom), mask)


def _shortened(words: str) -> str:
    columns = 0
    for index, character in enumerate(words):
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns > MAX_COLUMNS:
            return words[:index] + "…"
    return words


def _ink(colour: str) -> str:
    luma = sum(weight * level for weight, level in zip(LUMA, ImageColor.getrgb(colour)[:3], strict=True))
    return "black" if luma >= BRIGHT else "white"


@lru_cache(maxsize=FONT_PIXELS[1])
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    # Layout by FreeType alone: what Pillow would else choose depends on the libraries of the machine.
    with resources.as_file(resources.files("gateway.overlay") / "fonts" / FONT) as path:
        return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
