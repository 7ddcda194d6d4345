"""Writes a small COCO file that uses everything in the format, with its images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_images(folder: Path, names: list[str], seed: int = 0, resolution_wh: tuple[int, int] = (64, 48)) -> None:
    """Gray noise, so that no two images have the same pixels."""
    rng = np.random.default_rng(seed)
    width, height = resolution_wh
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)).save(folder / name)


def full_tree() -> dict[str, Any]:
    """A board with two defects, one with only a sentence about it, and a good one."""
    return {
        "text_descriptions": {
            "defect_001": "圆形焊点周围有黑色氧化痕迹",
            "defect_002": "a dull, grainy joint",
            "defect_003": "cracked along the pin",
            "defect_004": "板边有一道划痕",
        },
        "categories": [
            {
                "id": 7,
                "name": "cold_joint",
                "names": {"en": ["cold joint"], "zh": ["虚焊", "冷焊"]},
                "description_ids": ["defect_001", "defect_002"],
            },
            {"id": 3, "name": "划痕"},
        ],
        "images": [
            {"id": 10, "file_name": "images/a.png", "width": 64, "height": 48, "group": "lot-1"},
            {
                "id": 11,
                "file_name": "images/b.png",
                "width": 64,
                "height": 48,
                "group": "lot-2",
                "description_ids": ["defect_004"],
            },
            {"id": 12, "file_name": "images/c.png", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": 100,
                "image_id": 10,
                "category_id": 3,
                "bbox": [10, 20, 5.5, 8],
                "segmentation": [[10, 20, 15.5, 20, 12, 28]],
                "description_ids": ["defect_003"],
            },
            {"id": 101, "image_id": 10, "category_id": 7, "bbox": [0.1, 0, 63.9, 48], "iscrowd": 0},
        ],
    }


def write_tree(folder: Path, tree: object, name: str = "train.json") -> Path:
    """The images of full_tree and a JSON file beside their folder."""
    if not (folder / "images").exists():
        write_images(folder, ["images/a.png", "images/b.png", "images/c.png"])
    file = folder / name
    file.write_text(json.dumps(tree), encoding="utf-8")
    return file
