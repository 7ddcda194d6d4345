"""One image and its prompts through the served models: tiles, batches, one list of boxes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections
from export.contract.tensors import DETECTOR, PROMPT_BUCKETS, bucket
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from gateway.errors import ReplacedError
from gateway.prompts import PromptEmbeddings
from gateway.triton import Served, Triton

BATCHES_IN_FLIGHT = 4  # of one image: enough to keep two instances busy, few enough to bound memory


@dataclass(frozen=True)
class Reading:
    """Boxes, class_ids indexing the prompts, and the milliseconds that inference and merging took."""

    detections: Detections
    infer_ms: float
    postprocess_ms: float


class Detector:
    """The served checkpoint, asked about images; replaced as a whole when Triton serves another."""

    def __init__(self, triton: Triton, served: Served, prompts: PromptEmbeddings) -> None:
        self.served = served
        self.prompts = prompts
        self._triton = triton

    async def detect(
        self,
        image: NDArray[np.uint8],
        texts: Sequence[str],
        *,
        score_threshold: Sequence[float],
        nms_threshold: float,
        max_detections: int,
        timeout_s: float,
    ) -> Reading:
        """The boxes that an RGB image (H, W, 3) shows for the texts; all of them in one pass over the image.

        `score_threshold` has one entry for each text.
        """
        started = time.perf_counter()
        tile = self.served.dimensions.tile
        resolution_wh = (image.shape[1], image.shape[0])
        embeddings = await self.prompts.embed(texts, timeout_s)
        padded = np.zeros((bucket(len(texts), PROMPT_BUCKETS, "prompts"), embeddings.shape[1]), np.float32)
        padded[: len(texts)] = embeddings
        origins = tile_origins(resolution_wh, tile)
        room = asyncio.Semaphore(BATCHES_IN_FLIGHT)

        async def ask(batch: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            async with room:
                inputs = {
                    "IMAGE": cut_tiles(image, batch, tile),
                    "PROMPT_EMBEDDINGS": np.repeat(padded[None], len(batch), axis=0),
                }
                answer = await self._triton.infer(DETECTOR, inputs, timeout_s)
            if answer.version != self.served.version:
                raise ReplacedError("the served models are being replaced; try again")
            return answer.outputs["BOXES"], answer.outputs["SCORES"][..., : len(texts)]

        # Batches of equal size: two instances finish together.
        batches = np.array_split(origins, -(-len(origins) // DETECTOR.max_batch_size))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(batch)) for batch in batches]
        except ExceptionGroup as failures:  # the first fault has already cancelled the other batches
            raise failures.exceptions[0] from None
        inferred = time.perf_counter()
        boxes, scores = (np.concatenate(parts) for parts in zip(*(task.result() for task in tasks), strict=True))
        detections = await asyncio.to_thread(
            merge_tiles,
            boxes,
            scores,
            origins,
            resolution_wh,
            tile,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
        )
        merged = time.perf_counter()
        return Reading(detections, (inferred - started) * 1e3, (merged - inferred) * 1e3)
