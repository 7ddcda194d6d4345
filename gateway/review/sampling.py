"""Which answers are worth a person's look. Knows no database."""

import hashlib
from collections.abc import Sequence
from typing import Literal

from gateway.answer import DetectAnswer

Reason = Literal["near_threshold", "random"]


def reason_of(answer: DetectAnswer, thresholds: Sequence[float], margin: float, random_share: float) -> Reason | None:
    """Near a threshold where a score is within `margin` of its own; else a random share of all; else None.

    `thresholds` has the usual least score of each entry of `understood`: whoever asks with a lower one, to look more
    closely, does not make everything worth a look. Chance is drawn from the request id, so that every
    worker, and a repeat, decides alike.
    """
    least = {(asked.prompt, asked.defect): value for asked, value in zip(answer.understood, thresholds, strict=True)}
    if any(abs(found.score - least[found.prompt, found.defect]) <= margin for found in answer.detections):
        return "near_threshold"
    return "random" if share_of(answer.request_id) < random_share else None


def share_of(request_id: str) -> float:
    """A number in 0..1, evenly spread over request ids."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8]) / 2**64
