"""Draws a small folder in DeepPCB's format: black tracks on white, each class a mark of its own."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def write_boards(root: Path, count: int = 6, size: int = 300, seed: int = 0) -> Path:
    """`count` boards of two groups, with train.txt and val.txt listing all of them."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "annotations", "templates"):
        (root / folder).mkdir(parents=True)
    stems = [f"{'11111' if index % 2 else '22222'}{index:03d}" for index in range(count)]
    for stem in stems:
        image = Image.new("L", (size, size), 255)
        draw = ImageDraw.Draw(image)
        lines = []
        rows = range(40, size - 40, 60)
        for row in rows:
            draw.rectangle((0, row, size, row + 10), fill=0)
        image.save(root / "templates" / f"{stem}.jpg", quality=95)
        for row in rows:
            x, kind = int(rng.integers(40, size - 40)), int(rng.integers(1, 7))
            draw.rectangle((x - 6, row, x + 6, row + 10), fill=255 if kind % 2 else 128)
            lines.append(f"{x - 15} {row - 10} {x + 15} {row + 20} {kind}")
        image.save(root / "images" / f"{stem}.jpg", quality=95)
        (root / "annotations" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("\n".join(stems) + "\n")
    return root


def publish(boards: Path, root: Path) -> Path:
    """The boards of write_boards as the repository of DeepPCB has them: four for training, two for testing."""
    lines = []
    for stem in (boards / "train.txt").read_text().split():
        group = f"group{stem[:5]}/{stem[:5]}"
        for source, target in (
            (f"images/{stem}.jpg", f"{group}/{stem}_test.jpg"),
            (f"templates/{stem}.jpg", f"{group}/{stem}_temp.jpg"),
            (f"annotations/{stem}.txt", f"{group}_not/{stem}.txt"),
        ):
            (root / "PCBData" / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(boards / source, root / "PCBData" / target)
        lines.append(f"{group}/{stem}.jpg {group}_not/{stem}.txt\n")
    (root / "PCBData" / "trainval.txt").write_text("".join(lines[:4]))
    (root / "PCBData" / "test.txt").write_text("".join(lines[4:]))
    return root
