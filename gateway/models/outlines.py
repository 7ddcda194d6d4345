"""The outlines of boxes as the generative reading writes them: a region asks, the points of what is in it answer.

Each box is asked about in a view of its own, in which it is large, and all of a picture at once.
"""

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.locations import FEWEST_POINTS, NUM_BINS, dequantise_outline, quantise
from export.contract.tensors import GENERATOR
from export.contract.tiles import cut_tiles, view_of
from gateway.models.prompts import PromptEmbeddings
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.pictures.magnification import magnify
from gateway.request.deadline import Deadline

BATCHES_IN_FLIGHT = 4  # of one image, as when its boxes are read

Outline = NDArray[np.float32]  # (M, 2) in pixels of the image


async def read_outlines(
    triton: Triton,
    served: Served,
    prompts: PromptEmbeddings,
    pixels: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float32],
    deadline: Deadline,
) -> list[Outline | None]:
    """The outline of what is in each box (N, 4) of an image (H, W, 3), in its pixels; None where the answer is none.

    Raises:
        ServiceError: Triton does not answer, or not in time.
    """
    tile, first, room = served.dimensions.tile, prompts.first_location(), asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def ask(boxes: NDArray[np.float32]) -> list[Outline | None]:
        views = np.array([view_of(box, (pixels.shape[1], pixels.shape[0])) for box in boxes])  # (B, 3)
        origins, sides = views[:, :2], views[:, 2:]
        regions = quantise((boxes - np.tile(origins, 2)) / sides, (1, 1))
        tokens = prompts.regions(regions)
        async with room:
            inputs: dict[str, NDArray[Any]] = {
                "IMAGE": await asyncio.to_thread(_show, pixels, views, tile),
                "INPUT_IDS": tokens.input_ids,
                "ATTENTION_MASK": tokens.attention_mask,
            }
            outputs = await triton.infer(GENERATOR, served.version, inputs, deadline)
        points = (read_points(answer, region, first) for answer, region in zip(outputs["TOKENS"], regions, strict=True))
        placed = [own * side + origin for own, side, origin in zip(points, sides, origins, strict=True)]
        return [own.astype(np.float32) if len(own) else None for own in placed]

    size = GENERATOR.max_batch_size
    try:
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(ask(boxes_xyxy[start : start + size])) for start in range(0, len(boxes_xyxy), size)
            ]
    except ExceptionGroup as failures:  # the first fault has already cancelled the other batches
        raise failures.exceptions[0] from None
    return [outline for task in asking for outline in task.result()]


def _show(pixels: NDArray[np.uint8], views: NDArray[np.int64], tile: int) -> NDArray[np.uint8]:
    return np.concatenate([magnify(cut_tiles(pixels, view[None, :2], int(view[2])), tile) for view in views])


def read_points(tokens: NDArray[np.int64], region: NDArray[np.int64], first_location: int) -> NDArray[np.float32]:
    """One answer's tokens (L,) to points (M, 2) as fractions of the view; none where it is no outline.

    `region` (4,) is what was asked about, in bins of the view, and `first_location` is the id of <loc_0>.
    """
    bins = tokens - first_location
    bins = bins[(bins >= 0) & (bins < NUM_BINS)]
    points = dequantise_outline(bins[: len(bins) // 2 * 2].reshape(-1, 2), region)
    return points if len(points) >= FEWEST_POINTS else points[:0]
