"""The fast reading of tiles: the detector scores every box for every prompt in one pass, however many prompts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import DETECTOR, PROMPT_BUCKETS, bucket
from gateway.errors import ReplacedError
from gateway.models.prompts import PromptEmbeddings
from gateway.models.scan import Read
from gateway.models.triton import Served, Triton


async def grounding_reading(
    triton: Triton, served: Served, prompts: PromptEmbeddings, texts: Sequence[str], timeout_s: float
) -> Read:
    """What reads tiles (T, S, S, 3) for the texts: boxes (T, K, 4) as fractions of the tile, scores (T, K, P)."""
    embeddings = await prompts.embed(texts, timeout_s)
    padded = np.zeros((bucket(len(texts), PROMPT_BUCKETS, "prompts"), embeddings.shape[1]), np.float32)
    padded[: len(texts)] = embeddings

    async def read(tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs = {"IMAGE": tiles, "PROMPT_EMBEDDINGS": np.repeat(padded[None], len(tiles), axis=0)}
        answer = await triton.infer(DETECTOR, inputs, timeout_s)
        if answer.version != served.version:
            raise ReplacedError("the served models are being replaced; try again")
        return answer.outputs["BOXES"], answer.outputs["SCORES"][..., : len(texts)]

    return read
