"""Writes pictures and COCO's annotations.json with extended metadata: names, descriptions, attributes.

A picture appears under its name only when it is whole, and annotations.json comes last: a folder that has it is
complete.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from tqdm import tqdm

from training.synth.bare import draw_bare_board
from training.synth.blemishes import HELD_OUT, Split
from training.synth.phrases import category_names, describe, describe_category
from training.synth.picture import CATEGORIES, Picture, Region, draw_picture

Kind = Split | Literal["bare"]
IMAGES, ANNOTATIONS = "images", "annotations.json"
BARE_QUALITY = 90  # of the JPEG, as DeepPCB's
SMALLEST = 160  # pixels: below it nothing fits on a board


class SynthError(ValueError):
    """A dataset cannot be made as asked."""


@dataclass(frozen=True)
class Record:
    """What annotations.json says about one picture."""

    file_name: str
    regions: list[Region]
    hard_negatives: dict[str, int]


def write_dataset(
    folder: Path,
    count: int,
    *,
    seed: int,
    size: int,
    kind: Kind,
    mean_defects: float,
    blemish_share: float | None = None,
    workers: int,
) -> None:
    """Writes `count` pictures of `size` pixels a side to images/, and annotations.json.

    `mean_defects` are wished for on an assembled board that is not sound, 0 make all sound; bare boards have none.
    Of these `blemish_share` are blemishes, BLEMISH_SHARE of the kind if None.

    Raises:
        SynthError: names everything about the request that does not hold.
    """
    faults = [
        f"--{name} is {value}, expected at least {least}"
        for name, value, least in (
            ("n", count, 1),
            ("seed", seed, 0),
            ("size", size, SMALLEST),
            ("workers", workers, 1),
        )
        if value < least
    ]
    if mean_defects != 0 and mean_defects < 1:
        faults.append(f"--defects is {mean_defects}, expected 0 for sound boards, or at least 1")
    if blemish_share is not None and not 0 <= blemish_share <= 1:
        faults.append(f"--blemishes is {blemish_share}, expected a share from 0 to 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        faults.append(f"{folder} exists and is not an empty folder; give another --out or remove it")
    if faults:
        raise SynthError("\n".join(faults))
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    draw = partial(_write_picture, folder, seed, size, kind, mean_defects, blemish_share)
    records = list(tqdm(_each(draw, count, workers), total=count, unit="picture", disable=None))
    document = _document(records, seed=seed, size=size, kind=kind)
    aside = folder / f"{ANNOTATIONS}.part"
    aside.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    aside.replace(folder / ANNOTATIONS)


def _each(draw: "partial[Record]", count: int, workers: int) -> Iterator[Record]:
    if workers == 1:
        yield from map(draw, range(count))
        return
    with multiprocessing.get_context("spawn").Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap(draw, range(count))


def _draw(seed: int, index: int, size: int, kind: Kind, mean_defects: float, blemish_share: float | None) -> Picture:
    if kind != "bare":
        return draw_picture(seed, index, size, kind, mean_defects=mean_defects, blemish_share=blemish_share)
    gray = draw_bare_board(seed, index, size)
    return Picture(np.repeat(gray[..., None], 3, axis=2), [], Counter(), BARE_QUALITY)


def _write_picture(
    folder: Path,
    seed: int,
    size: int,
    kind: Kind,
    mean_defects: float,
    blemish_share: float | None,
    index: int,
) -> Record:
    picture = _draw(seed, index, size, kind, mean_defects, blemish_share)
    quality = [cv2.IMWRITE_JPEG_QUALITY, picture.jpeg_quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR), quality)
    name = f"{index:06d}.jpg"
    aside = folder / IMAGES / f"{name}.part"
    aside.write_bytes(np.asarray(encoded).tobytes())
    aside.replace(folder / IMAGES / name)
    return Record(f"{IMAGES}/{name}", picture.regions, dict(picture.hard_negatives))


def _document(records: list[Record], *, seed: int, size: int, kind: Kind) -> dict[str, Any]:
    texts = {key: text for category in CATEGORIES for key, text in describe_category(category).items()}
    categories = [
        {
            "id": number,
            "name": category,
            "names": category_names(category),
            "description_ids": list(describe_category(category)),
        }
        for number, category in enumerate(CATEGORIES, start=1)
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        stem = Path(record.file_name).stem
        images.append(
            {
                "id": number,
                "file_name": record.file_name,
                "width": size,
                "height": size,
                "group": f"synth_{kind}_{seed}_{stem}",  # every picture is a board of its own
                "hard_negatives": record.hard_negatives,
            }
        )
        for region in record.regions:
            sentences = describe(region.category, region.attributes)
            texts |= sentences
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CATEGORIES.index(region.category) + 1,
                    "bbox": list(region.bbox),
                    "area": region.area,
                    "iscrowd": 0,
                    "segmentation": region.polygons,
                    "description_ids": list(sentences),
                    "attributes": region.attributes,
                }
            )
    held_out = [look.as_attributes() for look in HELD_OUT]
    return {
        "info": {"description": "synthetic assembled boards", "seed": seed, "kind": kind, "held_out": held_out},
        "images": images,
        "annotations": annotations,
        "categories": categories,
        "text_descriptions": texts,
    }
