"""Draws an answer of POST /detect into its picture."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf")
FONT_SHARE = 0.02  # of the picture's height
MIN_FONT = 11  # pixels


def annotate(image: Image.Image, answer: Mapping[str, Any]) -> Image.Image:
    """A copy of the picture with every box, its class (or the number of its prompt) and its score."""
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(MIN_FONT, round(picture.height * FONT_SHARE)))
    prompts = list(dict.fromkeys(found["prompt"] for found in answer["detections"]))
    for found in reversed(answer["detections"]):  # the best on top
        number = prompts.index(found["prompt"])
        colour = COLOURS[number % len(COLOURS)]
        corners = tuple(found["box"][name] for name in ("x1", "y1", "x2", "y2"))
        label = f"{found['defect'] or f'prompt {number + 1}'} {found['score']:.2f}"
        draw.rectangle(corners, outline=colour, width=2)
        left, _, right, bottom = draw.textbbox((0, 0), label, font=font)
        x = min(corners[0], picture.width - (right - left))
        y = corners[1] - bottom - 2 if corners[1] - bottom - 2 >= 0 else corners[3] + 2
        draw.rectangle((x, y, x + right + 2, y + bottom + 2), fill=colour)
        draw.text((x + 1, y), label, fill="white", font=font)
    return picture
