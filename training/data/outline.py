"""The outline of a defect as a polygon (N, 2) float32 in pixels: traced, cut, made simple enough to be written down.

Corners of pixels are traced: pixel x spans x to x + 1. Knows nothing of pictures, of tokens and of networks.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from export.contract.locations import FEWEST_POINTS, MOST_POINTS

Polygon = NDArray[np.float32]

UNKNOWN: Polygon = np.zeros((0, 2), np.float32)
FINEST = 1.0  # pixels that a simplified outline may be off by, at least; more where it has too many points
COARSE = 0.06  # and of the square root of its area: few points are read soon, and learned sooner
COARSER = 1.25
LEAST_AREA = 2.0  # pixels: what is smaller has no shape
FINE = 8  # parts of a pixel, each way, in which overlaps are counted


def trace(mask: NDArray[np.uint8]) -> list[Polygon]:
    """The outer outlines of the pieces of a mask (H, W) of 0 and more."""
    grown = cv2.dilate(mask, np.ones((2, 2), np.uint8))  # by one to the right and down
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1, 2).astype(np.float32) for contour in contours if len(contour) >= FEWEST_POINTS]


def largest(polygons: Sequence[Polygon]) -> Polygon:
    """The one of the largest area; UNKNOWN where there is none."""
    return max(polygons, key=cv2.contourArea, default=UNKNOWN)


def cut(polygon: Polygon, size: int) -> Polygon:
    """What lies within a crop of `size` pixels; UNKNOWN where that is next to nothing.

    Edge after edge, as Sutherland and Hodgman, Reentrant Polygon Clipping, 1974.
    """
    for axis, sign, limit in ((0, 1, 0), (1, 1, 0), (0, -1, -size), (1, -1, -size)):
        depth = sign * polygon[:, axis] - limit  # of each point behind the edge: inside from 0 on
        if (depth >= 0).all():
            continue
        step, behind = np.roll(polygon, -1, axis=0) - polygon, np.roll(depth, -1)
        crosses = (depth >= 0) != (behind >= 0)
        share = depth / np.where(crosses, depth - behind, 1)
        both = np.stack([polygon, polygon + share[:, None] * step], axis=1)  # (N, 2, 2) a point, where it leaves
        polygon = both[np.stack([depth >= 0, crosses], axis=1)].astype(np.float32)
    return polygon if len(polygon) >= FEWEST_POINTS and cv2.contourArea(polygon) >= LEAST_AREA else UNKNOWN


def simplify(polygon: Polygon) -> Polygon:
    """The same with few points, MOST_POINTS at most, and off by as little as that takes; UNKNOWN where nothing is left.

    (Douglas and Peucker, Algorithms for the reduction of the number of points required to represent a line, 1973.)
    """
    if not len(polygon):
        return UNKNOWN
    tolerance = max(FINEST, COARSE * cv2.contourArea(polygon) ** 0.5)
    while len(points := cv2.approxPolyDP(polygon, tolerance, closed=True)) > MOST_POINTS:
        tolerance *= COARSER
    simple: Polygon = points.reshape(-1, 2).astype(np.float32)
    return simple if len(simple) >= FEWEST_POINTS and cv2.contourArea(simple) >= LEAST_AREA else UNKNOWN


def arrange(polygon: Polygon, corner: NDArray[np.float32]) -> Polygon:
    """The same clockwise as it is seen, from the point on that is nearest to a corner (2,)."""
    if cv2.contourArea(polygon, oriented=True) < 0:  # y points down: above 0 it is clockwise
        polygon = polygon[::-1]
    start = int(np.square(polygon - corner).sum(axis=1).argmin())
    return np.roll(polygon, -start, axis=0)


def overlap(one: Polygon, other: Polygon) -> float:
    """Intersection over union of two outlines; 0 where both are empty."""
    points = np.concatenate([one, other])
    if not len(points):
        return 0.0
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    width, height = ((high - low) * FINE).astype(int).tolist()
    masks = np.zeros((2, height + 1, width + 1), np.uint8)
    for mask, polygon in zip(masks, (one, other), strict=True):
        if len(polygon):
            cv2.fillPoly(mask, [np.rint((polygon - low) * FINE).astype(np.int32)], (1,))
    return float((masks[0] & masks[1]).sum() / max((masks[0] | masks[1]).sum(), 1))
