"""How many image tokens a square tile makes, and whether a Florence-2 has places for them; knows no network."""

import math
from dataclasses import dataclass

from export.contract.tensors import LENGTH_BUCKETS

LONGEST_PROMPT = LENGTH_BUCKETS[-1]  # tokens


@dataclass(frozen=True)
class Places:
    """What a Florence-2 has learned places for: they are finite. The defaults are Florence-2-base's."""

    stride: int = 32  # pixels that an image token stands for, each way
    rows: int = 50  # of image tokens, each with a position of its own
    positions: int = 1024  # of the language model, for image tokens and prompt together


def tile_fault(tile_size: int, boxes_per_tile: int, places: Places) -> str | None:
    """Why tiles of `tile_size` pixels with that many boxes cannot be had, every fault; None where they can."""
    stride, positions = places.stride, places.positions
    grid = tile_size // stride
    largest = min(math.isqrt(positions - 1 - LONGEST_PROMPT), places.rows)  # cells each way
    faults = []
    if tile_size % stride:
        faults.append(f"it is not a multiple of {stride}, the pixels per image token")
    if grid > largest:
        faults.append(
            f"{grid} x {grid} cells and their mean are {grid * grid + 1} image tokens, which with a prompt of up to "
            f"{LONGEST_PROMPT} must fit the {positions} positions of the language model, and {places.rows} rows of "
            f"cells: {largest * stride} pixels is the most ({largest * largest + 1} tokens); give less and cut larger "
            "images into tiles, as the service does"
        )
    if not 0 < boxes_per_tile <= grid * grid:
        faults.append(f"boxes_per_tile {boxes_per_tile} is not between 1 and its {grid * grid} image tokens")
    return f"input resolution {tile_size}: " + "; ".join(faults) if faults else None
