"""Draws a contact sheet: a close-up of every category with its box and names, and two whole boards."""

import textwrap
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.synth.blemishes import SHAPES
from training.synth.phrases import category_names, describe
from training.synth.picture import CATEGORIES, Picture, Region, draw_picture

TILE, CAPTION, COLUMNS = 250, 46, 4  # pixels, pixels, close-ups in a row
VIEW = 120  # pixels of the picture around a defect
PICTURE_SIZE = 640
BOX_COLOUR = (255, 214, 10)
REPOSITORY = Path(__file__).parents[2]
CHINESE_FONTS = (  # the repository's own, which annotated pictures have; where it is not at hand, those of a system
    str(REPOSITORY / "gateway" / "overlay" / "fonts" / "wqy-microhei.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc"),
)
LINE = 38  # letters that fit below a close-up
MOST_TRIED = 40  # boards
QUALITY_COLOURS = 256  # a palette keeps the file small


class SheetError(ValueError):
    """A contact sheet cannot be drawn."""


def write_sheet(path: Path, seed: int) -> None:
    """Writes a PNG; its pictures are the first of a seed that show what is wanted.

    Raises:
        SheetError: no board of the seed had room for one of the categories.
    """
    chinese = chinese_font()
    wanted = [*((name, None) for name in CATEGORIES[:-1]), *(("blemish", shape) for shape in SHAPES)]
    tiles = [
        _close_up(name, *_find(name, shape, seed, 1000 * (number + 1)), chinese)
        for number, (name, shape) in enumerate(wanted)
    ]
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    width = rows[0].shape[1] // 2
    boards = [draw_picture(seed, index, PICTURE_SIZE).image for index in (0, 1)]
    rows.append(np.hstack([cv2.resize(board, (width, width), interpolation=cv2.INTER_AREA) for board in boards]))
    sheet = Image.fromarray(np.vstack(rows)).quantize(QUALITY_COLOURS)
    aside = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(aside, format="PNG", optimize=True)
    aside.replace(path)


def _close_up(name: str, picture: Picture, region: Region, chinese: ImageFont.FreeTypeFont | None) -> NDArray[np.uint8]:
    x, y, width, height = region.bbox
    view = min(PICTURE_SIZE, max(VIEW, int(1.5 * max(width, height))))
    left = int(np.clip(x + width / 2 - view / 2, 0, PICTURE_SIZE - view))
    top = int(np.clip(y + height / 2 - view / 2, 0, PICTURE_SIZE - view))
    crop = picture.image[top : top + view, left : left + view]
    scale = TILE / view
    tile = np.full((TILE + CAPTION, TILE, 3), 255, np.uint8)
    tile[:TILE] = cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    canvas = Image.fromarray(tile)
    draw = ImageDraw.Draw(canvas)
    box = np.array([x - left - 2, y - top - 2, x - left + width + 2, y - top + height + 2]) * scale
    draw.rectangle(box.tolist(), outline=BOX_COLOUR, width=2)
    english, chinese_text = _captions(name, region)
    lines = textwrap.fill(english, LINE)
    draw.multiline_text((4, TILE + 1), lines, fill=(0, 0, 0), font=ImageFont.load_default(12), spacing=1)
    if chinese is not None:
        draw.text((4, TILE + 29), chinese_text, fill=(0, 0, 0), font=chinese)
    return np.asarray(canvas)


def _find(name: str, shape: str | None, seed: int, index: int) -> tuple[Picture, Region]:
    """The first picture from an index on that shows a category, a blemish of a certain shape."""
    for tried in range(index, index + MOST_TRIED):
        picture = draw_picture(seed, tried, PICTURE_SIZE, wanted=[name])
        if picture.regions and shape in (None, picture.regions[0].attributes["shape"]):
            return picture, picture.regions[0]
    raise SheetError(f"none of {MOST_TRIED} boards had room for {name}; give another --seed")


def _captions(name: str, region: Region) -> tuple[str, str]:
    if name != "blemish":
        names = category_names(name)
        return names["en"][0], names["zh"][0]
    texts = list(describe(name, region.attributes).values())
    return texts[0], texts[1]


def chinese_font() -> ImageFont.FreeTypeFont | None:
    """A font for captions in Chinese; none: they are left out."""
    for name in CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, 14)
        except OSError:
            continue
    return None
