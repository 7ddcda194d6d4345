"""What the review loop reads of an answer as it was recorded, by whichever release of the gateway."""

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
