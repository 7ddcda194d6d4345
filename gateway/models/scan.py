"""One picture in tiles and batches through a reading of them, and what it says as one list of boxes.

Knows no models: a reading is a function.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import AT_ONCE, Detections, concatenate
from export.contract.fusion import merge_boxes
from export.contract.tensors import DETECTOR
from export.contract.tiles import (
    MAX_CANDIDATES,
    best_candidates,
    cut_tiles,
    least_lengths,
    longer_than,
    place_tiles,
    tile_origins,
    tile_side,
)
from gateway.errors import NoRegionError
from gateway.models.acceptance import Acceptance
from gateway.models.queue import TileQueue
from gateway.pictures.magnification import magnify
from gateway.pictures.picture import Picture, WholePicture
from gateway.request.parameters import MAX_DETECTIONS, DetectParameters
from gateway.telemetry.measurement import current

BATCHES_IN_FLIGHT = 4  # of one image: enough to keep two instances busy, few enough to bound memory and others' waiting

# Tiles (T, S, S, 3) to boxes (T, K, 4) as fractions of the tile, and scores (T, K, P).
Read = Callable[[NDArray[np.uint8]], Awaitable[tuple[NDArray[np.float32], NDArray[np.float32]]]]


async def scan(
    picture: Picture,
    tile: int,
    read: Read,
    score_threshold: Sequence[float],
    acceptance: Acceptance,
    parameters: DetectParameters,
    queue: TileQueue,
) -> Detections:
    """The boxes of all tiles, duplicates among them; few batches of tiles are held at a time.

    The reading takes tiles of `tile` pixels; magnified, they show fewer pixels of the picture. Each magnification is a
    look of its own at all of it; an overview keeps the boxes that `least_lengths` leaves to it.

    Raises:
        NoRegionError: no region lies in the picture.
        ServiceError: whatever `read` and the picture raise.
    """
    resolution_wh = picture.resolution_wh
    sides = [tile_side(tile, magnification) for magnification in parameters.magnification]
    looks = {
        side: acceptance.tiles(tile_origins(resolution_wh, side, parameters.tile_overlap), side, resolution_wh)
        for side in sides
    }
    number = sum(map(len, looks.values()))
    if not number:
        width, height = resolution_wh
        raise NoRegionError(f"no region lies in the image, which has {width} x {height} pixels")
    has_overview = parameters.full_image and max(resolution_wh) > max(sides)
    least = least_lengths(sides) | ({max(resolution_wh): max(sides) / 2} if has_overview else {})
    current().tiles += number + has_overview
    promise = queue.promise(number + has_overview)
    room = asyncio.Semaphore(BATCHES_IN_FLIGHT)
    asked: deque[asyncio.Task[Detections]] = deque()
    found, overview = concatenate([]), concatenate([])
    corner = np.zeros((1, 2), np.int64)

    async def ask(tiles: NDArray[np.uint8], batch: NDArray[np.int64], shown: int) -> Detections:
        try:
            boxes, scores = await read(tiles)
            promise.came_back(len(tiles))
        finally:
            room.release()
        return longer_than(place_tiles(boxes, scores, batch, resolution_wh, shown, score_threshold), least[shown])

    try:
        async with asyncio.TaskGroup() as group:
            held = isinstance(picture, WholePicture)  # a thread for what is there already would cost more than it
            for side, origins in looks.items():
                bands = picture.bands(sorted(set(origins[:, 1].tolist())), side)
                while band := next(bands, None) if held else await asyncio.to_thread(next, bands, None):
                    tops, pixels = band
                    own = origins if held else origins[np.isin(origins[:, 1], tops)]
                    # Batches of equal size: two instances finish together.
                    for batch in np.array_split(own, -(-len(own) // DETECTOR.max_batch_size)):
                        await room.acquire()
                        tiles = magnify(cut_tiles(pixels, batch - [0, tops[0]], side), tile)
                        asked.append(group.create_task(ask(tiles, batch, side)))
                        while asked and asked[0].done():  # in their order: equal scores then keep theirs
                            found = best_candidates(concatenate([found, asked.popleft().result()]), MAX_CANDIDATES)
            if has_overview:
                thumbnail = await asyncio.to_thread(picture.thumbnail, tile)
                await room.acquire()
                overview = await ask(cut_tiles(thumbnail, corner, tile), corner, max(resolution_wh))
    except ExceptionGroup as failures:  # the first fault has already cancelled the other batches
        raise failures.exceptions[0] from None
    finally:
        promise.close()
    return concatenate([found, *(task.result() for task in asked), overview])


async def judged(
    found: Detections, score_threshold: Sequence[float], acceptance: Acceptance, parameters: DetectParameters
) -> Detections:
    """As `judge`; in a thread, unless that would cost more than the few boxes do."""
    if parameters.merging == "nms" and len(found) <= AT_ONCE:
        return judge(found, score_threshold, acceptance, parameters)
    return await asyncio.to_thread(judge, found, score_threshold, acceptance, parameters)


def judge(
    found: Detections, score_threshold: Sequence[float], acceptance: Acceptance, parameters: DetectParameters
) -> Detections:
    """Duplicates made one, what counts of them, best first; `max_detections` is for the answer, behind the verdict."""
    merged = merge_boxes(
        found,
        parameters.merging,
        iou_threshold=parameters.nms_threshold,
        max_detections=MAX_DETECTIONS,
        class_agnostic=parameters.class_agnostic,
    )
    least = np.asarray(score_threshold, dtype=np.float32)[merged.class_ids]
    merged = merged.take(merged.scores >= least)  # soft-NMS lessens scores
    return acceptance.of(merged)
