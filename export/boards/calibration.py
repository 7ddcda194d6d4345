"""What quantisation measures ranges on: real tiles, and with them the words that the service asks for.

Never random data: its ranges would be those of noise.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.boards.labelled import LabelledError, read_picture, training_boards
from export.contract.tiles import cut_tiles, tile_origins

Calibration = Mapping[str, NDArray[Any]]  # input name -> (N, ...), one row for each item

MIN_TILES = 500
SEED = 0
SUFFIXES = (".png", ".jpg", ".jpeg")


class CalibrationError(ValueError):
    """There are not enough real pictures to calibrate with."""


def calibration_tiles(
    checkpoint: Path, tile: int, folder: Path | None = None, count: int = MIN_TILES
) -> NDArray[np.uint8]:
    """`count` tiles (count, tile, tile, 3), drawn with a fixed seed from as many pictures as possible.

    Args:
        checkpoint: its folder, whose manifest names the data that it was trained on.
        tile: pixels.
        folder: pictures to take instead, those in its subfolders too.
        count: how many tiles.

    Raises:
        CalibrationError: says what was looked for, what was found, and the remedy.
        LabelledError: a picture cannot be read.
    """
    remedy = "give pictures of real boards with --calibration FOLDER"
    if folder is not None:
        paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        source = str(folder)
    else:
        source = f"the training data of {checkpoint}"
        try:
            paths = [board.path for board in training_boards(checkpoint).boards]
        except LabelledError as error:
            raise CalibrationError(f"no tiles to calibrate with: {error}; {remedy}") from error
    paths = sorted(set(paths))
    draw = random.Random(SEED)
    draw.shuffle(paths)
    tiles: list[NDArray[np.uint8]] = []
    left: list[tuple[Path, int]] = []  # tiles beyond the share, by picture and place
    share = -(-count // max(1, len(paths)))  # of each picture, rounded up
    for path in paths:
        if len(tiles) >= count:
            break
        image, origins = _read_tiled(path, tile)
        chosen = draw.sample(range(len(origins)), min(share, len(origins)))
        tiles += list(cut_tiles(image, origins[chosen], tile))
        left += [(path, place) for place in sorted(set(range(len(origins))) - set(chosen))]
    if len(tiles) + len(left) < count:
        raise CalibrationError(
            f"calibration needs {count} tiles of {tile}x{tile}; {source} has {len(paths)} pictures with "
            f"{len(tiles) + len(left)} tiles; {remedy}"
        )
    draw.shuffle(left)
    more: dict[Path, list[int]] = {}
    for path, place in left[: max(0, count - len(tiles))]:
        more.setdefault(path, []).append(place)
    for path, places in more.items():
        image, origins = _read_tiled(path, tile)
        tiles += list(cut_tiles(image, origins[places], tile))
    return np.stack(tiles[:count])


def _read_tiled(path: Path, tile: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A picture and where its tiles lie (N, 2)."""
    image = read_picture(path)
    return image, tile_origins((image.shape[1], image.shape[0]), tile)


def detector_rows(tiles: NDArray[np.uint8], prompts: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The detector's inputs: each tile with the same prompts (P, D)."""
    return {"IMAGE": tiles, "PROMPT_EMBEDDINGS": np.broadcast_to(prompts, (len(tiles), *prompts.shape))}
