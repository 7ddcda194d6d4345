"""One picture and its prompts through the served models, by the reading that is asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.contract.boxes import Detections
from gateway.models.acceptance import Acceptance
from gateway.models.generator import generative_reading
from gateway.models.grounding import grounding_reading
from gateway.models.outlines import Outline, read_outlines
from gateway.models.prompts import PromptEmbeddings
from gateway.models.queue import TileQueue
from gateway.models.scan import judged, scan
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.pictures.picture import Picture
from gateway.request.deadline import Deadline
from gateway.request.parameters import DetectParameters
from gateway.telemetry.measurement import stage


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
    ) -> Detections:
        """The boxes that a picture shows for the texts, best first; class_ids index the texts.

        `score_threshold` has one entry for each text.
        """
        reading = generative_reading if parameters.reading == "generative" else grounding_reading
        dimensions = self.served.dimensions
        with stage("infer"):
            with stage("prompts"):
                read = await reading(self._triton, self.served, self.prompts, texts, deadline)
            found = await scan(picture, dimensions.tile, read, score_threshold, acceptance, parameters, queue)
        with stage("postprocess"):
            return await judged(found, score_threshold, acceptance, parameters)

    def writes_outlines(self, parameters: DetectParameters) -> bool:
        """Whether the reading that is asked for has outlines."""
        return parameters.reading == "generative" and self.served.outlines

    async def outlines(
        self, pixels: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], deadline: Deadline
    ) -> list[Outline | None]:
        """What the generative reading writes as the outline of what is in each box (N, 4) of an image (H, W, 3).

        Raises:
            ServiceError: Triton does not answer, or not in time.
        """
        return await read_outlines(self._triton, self.served, self.prompts, pixels, boxes_xyxy, deadline)
