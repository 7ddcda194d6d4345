"""Pixels to Florence-2's location tokens and back: 1,000 bins per axis, `<loc_0>` to `<loc_999>`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 1000
DRAFT_TOLERANCE = 6  # bins: a location drafted so close to the one that is read stands in its place for those behind it
SCORE_WINDOW = 6  # bins each side: soft targets spread a location's probability over its neighbours
FEWEST_POINTS, MOST_POINTS = 3, 16  # of an outline
ROOM = 0.125  # of a region's sides, on each: an outline may reach so far beyond the region that it was asked about


def location_token(bin_index: int) -> str:
    """The text of a location token, e.g. `<loc_42>`."""
    return f"<loc_{bin_index}>"


def quantise(places: NDArray[np.floating[Any]], resolution_wh: tuple[int, int]) -> NDArray[np.int64]:
    """Boxes (..., 4) or points (..., 2) in pixels to bins 0..999: floor(x * 1000 / W), clamped, as Florence-2 does."""
    scale = np.resize(np.array(resolution_wh, dtype=np.float64), places.shape[-1])
    bins: NDArray[np.int64] = np.clip(np.floor(places * NUM_BINS / scale), 0, NUM_BINS - 1).astype(np.int64)
    return bins


def dequantise(bins: NDArray[np.integer[Any]], resolution_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Bins (..., 4) or (..., 2) to boxes or points in pixels: the middle of each bin, (q + 0.5) * W / 1000."""
    scale = np.resize(np.array(resolution_wh, dtype=np.float64), bins.shape[-1])
    return ((bins + 0.5) * scale / NUM_BINS).astype(np.float32)


def quantise_outline(points: NDArray[np.floating[Any]], region: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Points (N, 2) as fractions of the view to bins of a region, which is (4,) in bins of the view, and its ROOM.

    So a decoder learns shapes, wherever they are and however large, and a small defect's outline is as fine as another.
    """
    origin, size = _frame(region)
    return quantise((points - origin) / size, (1, 1))


def dequantise_outline(bins: NDArray[np.integer[Any]], region: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Bins (N, 2) of a region, which is (4,) in bins of the view, to points as fractions of the view."""
    origin, size = _frame(region)
    return (dequantise(bins, (1, 1)) * size + origin).astype(np.float32)


def _frame(region: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x1y1, x2y2 = (region.reshape(2, 2) + 0.5) / NUM_BINS
    sides = np.maximum(x2y2 - x1y1, 1 / NUM_BINS)
    return x1y1 - ROOM * sides, (1 + 2 * ROOM) * sides
