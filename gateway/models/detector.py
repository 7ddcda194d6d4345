"""One picture and its prompts through the served models, by the reading that is asked for."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from export.contract.boxes import Detections
from gateway.models.acceptance import Acceptance
from gateway.models.generator import generative_reading
from gateway.models.grounding import grounding_reading
from gateway.models.prompts import PromptEmbeddings
from gateway.models.queue import TileQueue
from gateway.models.scan import judge, scan
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.pictures.picture import Picture
from gateway.request.deadline import Deadline
from gateway.request.parameters import DetectParameters


@dataclass(frozen=True)
class Reading:
    """Boxes, class_ids indexing the prompts, and the milliseconds that inference and merging took."""

    detections: Detections
    infer_ms: float
    postprocess_ms: float


class Detector:
    """The served checkpoint, asked about pictures; replaced as a whole when Triton serves another."""

    def __init__(self, triton: Triton, served: Served, prompts: PromptEmbeddings) -> None:
        self.served = served
        self.prompts = prompts
        self._triton = triton

    async def detect(
        self,
        picture: Picture,
        texts: Sequence[str],
        *,
        score_threshold: Sequence[float],
        acceptance: Acceptance,
        parameters: DetectParameters,
        deadline: Deadline,
        queue: TileQueue,
    ) -> Reading:
        """The boxes that a picture shows for the texts, best first.

        `score_threshold` has one entry for each text.
        """
        started = time.perf_counter()
        reading = generative_reading if parameters.reading == "generative" else grounding_reading
        read = await reading(self._triton, self.served, self.prompts, texts, deadline)
        found = await scan(picture, self.served.dimensions.tile, read, score_threshold, acceptance, parameters, queue)
        inferred = time.perf_counter()
        detections = await asyncio.to_thread(judge, found, score_threshold, acceptance, parameters)
        merged = time.perf_counter()
        return Reading(detections, (inferred - started) * 1e3, (merged - inferred) * 1e3)
