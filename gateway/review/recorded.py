"""What the review loop reads of an answer as it was recorded, by whichever release of the gateway."""

from collections.abc import Sequence

from pydantic import BaseModel

from gateway.answer import Box, ImageSize


class Asked(BaseModel):
    """An entry of `understood`: what was looked for."""

    prompt: str
    defect: str | None
    asked: str


class Found(BaseModel):
    """A detection."""

    id: str
    prompt: str
    defect: str | None
    score: float
    box: Box


class RecordedAnswer(BaseModel):
    """An answer of POST /detect."""

    image: ImageSize
    understood: list[Asked]
    detections: list[Found]


def faint(answer: RecordedAnswer, thresholds: Sequence[float]) -> set[str]:
    """Ids of the detections that a line does not call: the page asks for them, below the usual least score.

    `thresholds` has that score of each entry of `understood`.
    """
    usual = {
        (entry.prompt, entry.defect): threshold for entry, threshold in zip(answer.understood, thresholds, strict=True)
    }
    return {found.id for found in answer.detections if found.score < usual[found.prompt, found.defect]}
