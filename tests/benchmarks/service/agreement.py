"""Whether the servers say the same about a picture; asked before they are timed."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from export.contract.boxes import Detections
from export.contract.locations import NUM_BINS
from tests.benchmarks.service.question import PROMPTS, TILE, Question
from tests.benchmarks.service.reply import answered
from tests.benchmarks.service.servers import IMAGE_ONCE, Servers

ROUNDING_PX, ROUNDING = 0.006, 1e-6  # of a box and of a score in the gateway's answer
EVERYTHING = {"reading": "generative", "score_threshold": 0, "nms_threshold": 1, "max_detections": 10_000}

Box = Mapping[str, Any]  # {"prompt", "box": its corners in pixels}


class Agreement(TypedDict):
    """About one picture."""

    differing: int  # of the detections of the gateway and of Triton
    generative_as_transformers: NotRequired[float]  # share of the boxes, to one location bin


async def agreement(up: Servers, question: Question) -> Agreement:
    """What the gateway, Triton and, where it is up, transformers' `generate` say."""
    answer, read = answered(await up.gateway.ask(question)), answered(await up.direct.ask(question))
    found: Agreement = {"differing": differing(answer["detections"], up.direct.boxes(question, read))}
    if IMAGE_ONCE in up.peers:
        ours = boxes_of(answered(await up.gateway.ask(question.having(**EVERYTHING))))
        theirs = answered(await up.peers[IMAGE_ONCE].ask(question))["boxes"]
        found["generative_as_transformers"] = round(agreeing(ours, theirs), 3)
    return found


def boxes_of(content: Mapping[str, Any]) -> list[Box]:
    """The gateway's answer in the form of the peers'."""
    return [{"prompt": each["prompt"], "box": list(each["box"].values())} for each in content["detections"]]


def differing(detections: Sequence[Mapping[str, Any]], direct: Detections) -> int:
    """How many of the gateway's detections and Triton's own, both best first, are not the same."""
    pairs = zip(detections, direct.boxes_xyxy, direct.scores, direct.class_ids, strict=False)
    same: int = sum(
        each["prompt"] == PROMPTS[class_id]
        and abs(each["score"] - score) <= ROUNDING
        and bool((np.abs(np.array(list(each["box"].values())) - box) <= ROUNDING_PX).all())
        for each, box, score, class_id in pairs
    )
    return max(len(detections), len(direct)) - same


def agreeing(ours: Sequence[Box], theirs: Sequence[Box], bins: int = 1) -> float:
    """The share of boxes that both have: of one prompt, and no coordinate more than so many location bins apart."""
    left, both, apart_px = list(theirs), 0, bins * TILE / NUM_BINS + 2 * ROUNDING_PX
    for box in ours:
        same = [
            other
            for other in left
            if other["prompt"] == box["prompt"] and np.abs(np.subtract(other["box"], box["box"])).max() <= apart_px
        ]
        if same:
            left.remove(same[0])
            both += 1
    most = max(len(ours), len(theirs))
    return both / most if most else 1.0
