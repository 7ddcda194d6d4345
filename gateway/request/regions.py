"""Regions of an image: rectangles and polygons in its pixels, as a request gives them, and what lies inside.

A rectangle is [x1, y1, x2, y2], a polygon [[x, y], ...] with at least three corners.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, WithJsonSchema

MAX_REGIONS = 64
MAX_CORNERS = 256  # of one polygon
LARGEST = 1e6  # of a coordinate; no image is larger
EXPECTED = "expected a JSON list of rectangles [x1, y1, x2, y2] and polygons [[x, y], [x, y], [x, y], ...]"

Polygon = tuple[tuple[float, float], ...]


def read_regions(value: object) -> tuple[Polygon, ...]:
    """The regions that a parameter gives: text, which is JSON, of a form or query, or the list of a JSON body.

    Raises:
        ValueError: names every region that is none.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is not JSON; {EXPECTED}") from error
    if not isinstance(value, list | tuple):
        raise ValueError(f"is a {type(value).__name__}; {EXPECTED}")
    if len(value) > MAX_REGIONS:
        raise ValueError(f"has {len(value)} regions, the limit is {MAX_REGIONS}")
    polygons = [_polygon(region) for region in value]
    faults = [f"region {number} is no region" for number, polygon in enumerate(polygons) if polygon is None]
    if faults:
        raise ValueError(f"{', '.join(faults)}; {EXPECTED}, x1 < x2, y1 < y2, at most {MAX_CORNERS} corners")
    return tuple(polygon for polygon in polygons if polygon is not None)


POINTS = {"type": "array", "items": {"type": "number"}}
Regions = Annotated[
    tuple[Polygon, ...],
    PlainValidator(read_regions),
    WithJsonSchema(
        {
            "description": "Rectangles [x1, y1, x2, y2] and polygons [[x, y], ...] in pixels; in a form as JSON.",
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": MAX_REGIONS,
                    "items": {"anyOf": [POINTS, {"type": "array", "items": POINTS}]},
                },
                {"type": "string", "contentMediaType": "application/json"},
            ],
        }
    ),
]


def inside(points: NDArray[np.floating[Any]], regions: Sequence[Polygon]) -> NDArray[np.bool_]:
    """Which of the points (N, 2) lie in any of the regions (N,)."""
    found = np.zeros(len(points), dtype=bool)
    for region in regions:
        found |= _in_polygon(points.astype(np.float64), np.array(region))
    return found


def touched(
    origins: NDArray[np.int64], side: int, resolution_wh: tuple[int, int], regions: Sequence[Polygon]
) -> NDArray[np.bool_]:
    """Which squares at origins (T, 2) of an image reach into the bounds of any of the regions (T,), in that image."""
    ends = np.minimum(origins + side, resolution_wh)
    found = np.zeros(len(origins), dtype=bool)
    for region in regions:
        corners = np.array(region)
        found |= ((origins < corners.max(axis=0)) & (ends > corners.min(axis=0))).all(axis=1)
    return found


def _polygon(region: Any) -> Polygon | None:  # noqa: ANN401 - whatever JSON can hold
    if not isinstance(region, list | tuple):
        return None
    if len(region) == 4 and all(_is_number(value) for value in region):
        x1, y1, x2, y2 = (float(value) for value in region)
        return ((x1, y1), (x2, y1), (x2, y2), (x1, y2)) if x1 < x2 and y1 < y2 else None
    if not 3 <= len(region) <= MAX_CORNERS:
        return None
    if not all(isinstance(p, list | tuple) and len(p) == 2 and all(map(_is_number, p)) for p in region):
        return None
    return tuple((float(x), float(y)) for x, y in region)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _in_polygon(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """By the even-odd rule: how many edges (E) a ray to the right of each point crosses, (N, 2) -> (N,)."""
    starts, ends = corners, np.roll(corners, -1, axis=0)  # (E, 2)
    x, y = points[:, :1], points[:, 1:]  # (N, 1)
    spans = (starts[:, 1] > y) != (ends[:, 1] > y)  # (N, E)
    rise = np.where(spans, ends[:, 1] - starts[:, 1], 1.0)
    crossing = starts[:, 0] + (y - starts[:, 1]) * (ends[:, 0] - starts[:, 0]) / rise
    odd: NDArray[np.bool_] = (spans & (x < crossing)).sum(axis=1) % 2 == 1
    return odd
