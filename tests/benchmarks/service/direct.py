"""Triton without the gateway: what that adds is the difference."""

import asyncio
from collections.abc import Sequence

import numpy as np
import psutil
from numpy.typing import NDArray

from export.contract.boxes import Detections
from export.contract.defects import DEFECTS
from export.contract.tensors import DETECTOR
from export.contract.tiles import merge_tiles
from export.server import TritonServer
from gateway.errors import STATUS, ServiceError
from gateway.models.grounding import grounding_reading
from gateway.models.prompts import PromptEmbeddings
from gateway.models.scan import Read
from gateway.models.served import Served, describe
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from gateway.request.parameters import DetectParameters
from tests.benchmarks.service.question import PROMPTS, TILE, Question
from tests.benchmarks.service.reply import Reply

WHOLE_RUN_S = 24 * 3600.0


class DirectTriton:
    """Asked by gRPC, through the gateway's own client, with tiles that are cut and words that are embedded."""

    def __init__(self, triton: Triton, served: Served, read: Read, processes: tuple[psutil.Process, ...]) -> None:
        self.processes = processes
        self._triton, self._served, self._read = triton, served, read

    @classmethod
    async def of(cls, server: TritonServer) -> "DirectTriton":
        """With the prompts' embeddings."""
        triton = Triton(server.grpc_url)
        served = await describe(triton)
        prompts = PromptEmbeddings(triton, served, server.model_repository)
        read = await grounding_reading(triton, served, prompts, PROMPTS, Deadline.within(WHOLE_RUN_S))
        return cls(triton, served, read, (psutil.Process(server.pid),))

    async def ask(self, question: Question) -> Reply:
        """All tiles in as many batches as the gateway makes; the content is boxes and scores of each."""
        batches = np.array_split(question.tiles, -(-len(question.tiles) // DETECTOR.max_batch_size))
        try:
            return Reply(200, await asyncio.gather(*(self._read(batch) for batch in batches)))
        except ServiceError as error:  # its queue is full
            return Reply(STATUS[type(error)][0], str(error))

    def boxes(self, question: Question, read: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Detections:
        """What an answer's content says by the rules of the gateway's defaults; this is not timed."""
        defaults = DetectParameters()
        boxes, scores = (np.concatenate([each[part] for each in read]) for part in (0, 1))
        return merge_tiles(
            boxes,
            scores,
            question.origins,
            question.resolution_wh,
            TILE,
            score_threshold=[self._served.score_threshold(defect.id) for defect in DEFECTS],
            nms_threshold=defaults.nms_threshold,
            max_detections=defaults.max_detections,
        )

    async def close(self) -> None:
        """Ends the connection."""
        await self._triton.close()
