"""Labelled pictures of boards: a DeepPCB folder, a COCO file, or what a checkpoint was trained and judged on.

Reads what it needs of them and no more; knows nothing of how a network was trained on them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.deeppcb import list_boards
from export.contract.defects import BARE_BOARD, known_defect

MISSING_NAMED = 5  # pictures in a message
DEPTH_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # gray; Pillow would cut its levels off at 255


class LabelledError(ValueError):
    """Labelled pictures are missing or cannot be read."""


@dataclass(frozen=True)
class Board:
    """One picture and its defects: boxes_xyxy (N, 4) in pixels, class_ids (N,) places in the class names.

    One with sparse labels is not fully labelled: it may show more than has a box, and does not judge.
    """

    path: Path
    group: str
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    fully_labelled: bool = True


@dataclass(frozen=True)
class Boards:
    """Pictures, and the English name that each of their classes is asked for by."""

    class_names: tuple[str, ...]
    boards: tuple[Board, ...]


def read_boards(path: Path, split: str = "val") -> Boards:
    """Reads a COCO file, or `split` of a DeepPCB folder.

    Raises:
        LabelledError: it is neither, a file in it cannot be read, or a picture is missing.
    """
    try:
        boards = _read_coco(path) if path.suffix == ".json" else _read_deeppcb(path, split)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise LabelledError(f"{path} cannot be read ({error!r}), expected a COCO file or a DeepPCB folder") from error
    missing = [str(board.path) for board in boards.boards if not board.path.is_file()]
    if missing:
        raise LabelledError(
            f"{path}: {len(missing)} of {len(boards.boards)} pictures are missing, among them "
            f"{', '.join(missing[:MISSING_NAMED])}; copy them there, or take them out of the labels"
        )
    return boards


def training_boards(checkpoint: Path) -> Boards:
    """The pictures that a checkpoint was trained on; those that judged it are left out.

    Raises:
        LabelledError: its manifest does not say where they are, or they are not there.
    """
    data = _data_of(checkpoint)
    held = set(data.get("holdout_groups", ()))
    boards = _join([read_boards(Path(source["path"]), source.get("split", "train")) for source in data["sources"]])
    return replace(boards, boards=tuple(board for board in boards.boards if board.group not in held))


def judging_boards(checkpoint: Path, given: Path | None = None) -> Boards:
    """The pictures to judge a checkpoint by: those given, else those that did so in its training. It learned from none.

    Raises:
        LabelledError: its manifest does not say where they are, they are not there, or they have no box.
    """
    boards = _held_out(checkpoint) if given is None else read_boards(given)
    boards = replace(boards, boards=tuple(board for board in boards.boards if board.fully_labelled))
    if not any(len(board.class_ids) for board in boards.boards):
        raise LabelledError(
            f"{given or checkpoint / 'manifest.json'}: {len(boards.boards)} labelled pictures and no box on any, so "
            "that every detector would have the same mAP; give pictures with labelled defects"
        )
    return boards


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as RGB (H, W, 3); 16-bit gray levels are divided by 257, as the gateway divides them.

    Raises:
        LabelledError: it is missing, truncated or damaged, or its pixels are floating-point numbers.
    """
    Image.MAX_IMAGE_PIXELS = None  # against strangers' pictures; these are the user's own, however large
    try:
        with Image.open(path) as image:
            if image.mode == "F":
                raise ValueError("floating-point pixels have no fixed range")
            if image.mode in DEPTH_16:
                levels = np.clip(np.asarray(image).astype(np.int32) // 257, 0, 255).astype(np.uint8)
                return np.repeat(levels[..., None], 3, axis=2)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise LabelledError(
            f"{path} cannot be read ({error}), expected a whole picture of 8 or 16 bits; copy it again, or leave it out"
        ) from error


def _held_out(checkpoint: Path) -> Boards:
    data = _data_of(checkpoint)
    held = set(data.get("holdout_groups", ()))
    sources = [read_boards(Path(source["path"]), source.get("split", "train")) for source in data["sources"]]
    apart = [read_boards(Path(source["path"]), source.get("split", "val")) for source in data.get("holdout", ())]
    kept = [
        replace(source, boards=tuple(board for board in source.boards if board.group in held)) for source in sources
    ]
    boards = _join([*kept, *apart])
    if not boards.boards:
        raise LabelledError(f"{checkpoint / 'manifest.json'}: the holdout groups {sorted(held)} have no picture")
    return boards


def _data_of(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "manifest.json"
    manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    data: dict[str, Any] = manifest.get("training", {}).get("config", {}).get("data", {})
    if not data.get("sources"):
        raise LabelledError(f"{file} does not say what was trained on: no training.config.data.sources in it")
    return data


def _read_deeppcb(root: Path, split: str) -> Boards:
    boards, faults = [], list[str]()
    for files in list_boards(root, split, faults):
        lines = files.annotation.read_text(encoding="utf-8").splitlines()
        table = np.array([line.split() for line in lines if line.strip()], np.int64).reshape(-1, 5)
        boards.append(Board(files.image, files.group, table[:, :4].astype(np.float32), table[:, 4] - 1))
    if faults:
        raise ValueError("; ".join(faults))
    return Boards(tuple(defect.names_en[0] for defect in BARE_BOARD), tuple(boards))


def _read_coco(file: Path) -> Boards:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    names = [_asked_name(entry) for entry in document["categories"]]
    places = {entry["id"]: place for place, entry in enumerate(document["categories"])}
    found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        found[annotation["image_id"]].append(annotation)
    boards = []
    for image in document["images"]:
        boxes = np.array([annotation["bbox"] for annotation in found[image["id"]]], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # xywh -> xyxy
        class_ids = [places[annotation["category_id"]] for annotation in found[image["id"]]]
        path = file.parent / image["file_name"]
        group, is_sparse = str(image.get("group", "")), bool(image.get("description_ids"))
        boards.append(Board(path, group, boxes, np.array(class_ids, np.int64), not is_sparse))
    return Boards(tuple(names), tuple(boards))


def _asked_name(category: dict[str, Any]) -> str:
    """As training asks: the first name in English, else in Chinese, else the known defect's, else the category's."""
    own = category.get("names") or {}
    defect = known_defect(category["name"])
    usual = category["name"] if defect is None else defect.names_en[0]
    named: str = next(iter([*own.get("en", ()), *own.get("zh", ())]), usual)
    return named


def _join(sources: Sequence[Boards]) -> Boards:
    """One set of all pictures; classes of one name become one."""
    names = list(dict.fromkeys(name for source in sources for name in source.class_names))
    boards = []
    for source in sources:
        places = np.array([names.index(name) for name in source.class_names], np.int64)
        boards += [replace(board, class_ids=places[board.class_ids]) for board in source.boards]
    return Boards(tuple(names), tuple(boards))
