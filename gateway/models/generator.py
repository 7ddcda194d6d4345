"""The generative reading of tiles: Florence-2 writes labels and locations, which become scored boxes.

Each tile is asked once for each prompt. The labels written are not read: the prompt says what is meant.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.contract.locations import NUM_BINS, dequantise
from export.contract.tensors import GENERATOR
from gateway.errors import ParameterError
from gateway.models.prompts import PromptEmbeddings
from gateway.models.scan import Read
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline


async def generative_reading(
    triton: Triton, served: Served, prompts: PromptEmbeddings, texts: Sequence[str], deadline: Deadline
) -> Read:
    """What reads tiles (T, S, S, 3) for the texts: boxes (T, K, 4) as fractions of the tile, scores (T, K, P).

    Raises:
        ParameterError: Triton does not serve the generator of the checkpoint, which the fast reading does without; or a
            text holds locations, which would ask for an outline.
    """
    if not await triton.serves(GENERATOR, served.version):
        raise ParameterError(
            f"reading is 'generative', but Triton does not serve version {served.version} of the model generator as "
            "the contract states it; export it, or ask for 'grounding'"
        )
    asked, first_location, count = prompts.tokens(texts), prompts.first_location(), len(texts)
    bins = asked.input_ids - first_location
    if ((bins >= 0) & (bins < NUM_BINS)).any():
        raise ParameterError("a prompt holds <loc_...>, which says a place and no words; give `regions` instead")

    async def read(tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # The prompts about a tile stand side by side: the model sees an image of a batch once.
        rows = [(tile, prompt) for tile in range(len(tiles)) for prompt in range(count)]
        answers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for start in range(0, len(rows), GENERATOR.max_batch_size):
            tile_ids, prompt_ids = np.array(rows[start : start + GENERATOR.max_batch_size]).T
            inputs = {
                "IMAGE": tiles[tile_ids],
                "INPUT_IDS": asked.input_ids[prompt_ids],
                "ATTENTION_MASK": asked.attention_mask[prompt_ids],
            }
            outputs = await triton.infer(GENERATOR, served.version, inputs, deadline)
            for tokens, log_probs in zip(outputs["TOKENS"], outputs["LOG_PROBS"], strict=True):
                answers.append(read_boxes(tokens, log_probs, first_location))
        most = max(1, *(len(own) for _, own in answers))
        boxes = np.zeros((len(tiles), count * most, 4), np.float32)
        scores = np.full((len(tiles), count * most, count), -1.0, np.float32)  # below every threshold
        for (tile, prompt), (own_boxes, own_scores) in zip(rows, answers, strict=True):
            place = slice(prompt * most, prompt * most + len(own_scores))
            boxes[tile, place] = own_boxes
            scores[tile, place, prompt] = own_scores
        return boxes, scores

    return read


def read_boxes(
    tokens: NDArray[np.int64], log_probs: NDArray[np.float32], first_location: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One answer's tokens (L,) and their log-probabilities to boxes (N, 4) as fractions of the tile and scores (N,).

    The score is exp(mean log p) over the four locations, times the label's probability, as training reads it.
    `first_location` is the id of <loc_0>.
    """
    bins: list[list[int]] = []
    scores: list[float] = []
    box: list[int] = []
    location_logs: list[float] = []
    label_log = 0.0
    for token, log_prob in zip((tokens - first_location).tolist(), log_probs.tolist(), strict=True):
        if not 0 <= token < NUM_BINS:  # text; </s> and what follows is never followed by a location
            label_log += log_prob
            continue
        box.append(token)
        location_logs.append(log_prob)
        if len(box) == 4:
            bins.append(box)
            scores.append(float(np.exp(np.mean(location_logs) + label_log)))
            box, location_logs, label_log = [], [], 0.0
    boxes = dequantise(np.array(bins, dtype=np.int64).reshape(-1, 4), (1, 1))
    return boxes, np.array(scores, dtype=np.float32)
