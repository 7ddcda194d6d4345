"""One picture of one board, from its seed and index alone: laid out, routed, spoilt, painted, photographed."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.defects import DEFECTS
from training.data.outline import trace
from training.synth.blemishes import Split, looks_of, put_blemish
from training.synth.camera import MARGIN, Camera, photograph
from training.synth.copper import route
from training.synth.defects import Finding, Inspection, put_defect, scratch
from training.synth.dust import settle
from training.synth.layout import lay_out
from training.synth.paint import draw_finish, paint_board

CLEAN_SHARE = 0.15
MEAN_DEFECTS = 3.2  # of a board that is not sound, as wished; where no place is free there are fewer
MOST_DEFECTS = 2.5  # times the mean
BLEMISH_SHARE = {"train": 0.2, "heldout": 0.5}
VIEW_MM = (25.0, 38.0)  # what a picture's side shows
SPLIT_SEEDS = {"train": 0, "heldout": 1}
CATEGORIES = (*(defect.id for defect in DEFECTS), "blemish")


@dataclass(frozen=True)
class Region:
    """One annotated defect: box xywh and polygons (lists of x, y, x, y ...) in pixels of the picture."""

    category: str
    attributes: dict[str, str]
    bbox: tuple[float, float, float, float]
    polygons: list[list[float]]
    area: float


@dataclass(frozen=True)
class Picture:
    """A picture (size, size, 3) RGB before compression, what is wrong with it, and what only looks wrong."""

    image: NDArray[np.uint8]
    regions: list[Region]
    hard_negatives: Counter[str]
    jpeg_quality: int


def draw_picture(
    seed: int,
    index: int,
    size: int = 640,
    split: Split = "train",
    *,
    mean_defects: float = MEAN_DEFECTS,
    blemish_share: float | None = None,
    wanted: list[str] | None = None,
) -> Picture:
    """Draws a picture; the same arguments give the same bytes.

    Args:
        mean_defects: wished for on a board that is not sound; 0: all are sound.
        blemish_share: of these; None: BLEMISH_SHARE of the split.
        wanted: categories to put in instead of a drawn handful; [] leaves the same board sound.
    """
    streams = np.random.SeedSequence([seed, index, SPLIT_SEEDS[split]]).spawn(4)
    layout_rng, defect_rng, camera_rng, dust_rng = (np.random.default_rng(stream) for stream in streams)
    side = 2 * round(size * MARGIN / 2)
    board = lay_out(side, size / layout_rng.uniform(*VIEW_MM), layout_rng)
    route(board, layout_rng)
    finish = draw_finish(layout_rng)
    camera = Camera.draw(size, side, camera_rng)
    inspection = Inspection(board, camera, [])
    blemish_share = BLEMISH_SHARE[split] if blemish_share is None else blemish_share
    names = _draw_names(blemish_share, mean_defects, defect_rng) if wanted is None else wanted
    on_surface = ("scratch", "blemish")
    found = [put_defect(name, inspection, defect_rng) for name in names if name not in on_surface]
    surface = paint_board(board, finish, layout_rng)
    looks = looks_of(split)
    for name in names:
        if name == "scratch":
            found.append(scratch(surface, finish, inspection, defect_rng))
        elif name == "blemish":
            look = looks[int(defect_rng.integers(len(looks)))]
            found.append(put_blemish(surface, inspection, look, defect_rng))
    settle(surface, board, dust_rng)
    image = photograph(surface, camera, board.hard_negatives, camera_rng)
    regions = [_outline(finding, camera) for finding in found if finding is not None]
    shown = [region for region in regions if region is not None]
    return Picture(image, shown, board.hard_negatives, camera.jpeg_quality)


def _draw_names(blemish_share: float, mean_defects: float, rng: np.random.Generator) -> list[str]:
    if rng.random() < CLEAN_SHARE or not mean_defects:
        return []
    names = []
    for _ in range(int(np.clip(rng.poisson(mean_defects), 1, MOST_DEFECTS * mean_defects))):
        blemish = rng.random() < blemish_share
        names.append("blemish" if blemish else DEFECTS[int(rng.integers(len(DEFECTS)))].id)
    return names


def _outline(finding: Finding, camera: Camera) -> Region | None:
    """A finding as the picture shows it: corners of pixels are traced, so a box encloses its pixels exactly."""
    mask = camera.project(finding.mask)
    polygons = trace(mask)
    if not polygons:
        return None
    points = np.concatenate(polygons)
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    flat = [polygon.reshape(-1).tolist() for polygon in polygons]
    return Region(finding.category, finding.attributes, (x1, y1, x2 - x1, y2 - y1), flat, float(mask.sum()))
