"""The fast reading of tiles: the detector scores every box for every prompt in one pass, however many prompts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import DETECTOR, PROMPT_BUCKETS, bucket
from gateway.models.prompts import PromptEmbeddings
from gateway.models.scan import Read
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline


async def grounding_reading(
    triton: Triton, served: Served, prompts: PromptEmbeddings, texts: Sequence[str], deadline: Deadline
) -> Read:
    """What reads tiles (T, S, S, 3) for the texts: boxes (T, K, 4) as fractions of the tile, scores (T, K, P)."""
    embeddings = await prompts.embed(texts, deadline)
    padded = np.zeros((bucket(len(texts), PROMPT_BUCKETS, "prompts"), embeddings.shape[1]), np.float32)
    padded[: len(texts)] = embeddings

    async def read(tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs = {"IMAGE": tiles, "PROMPT_EMBEDDINGS": np.repeat(padded[None], len(tiles), axis=0)}
        outputs = await triton.infer(DETECTOR, served.version, inputs, deadline)
        return outputs["BOXES"], outputs["SCORES"][..., : len(texts)]

    return read
