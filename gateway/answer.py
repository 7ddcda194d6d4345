"""What POST /detect answers."""

from typing import Literal

from pydantic import BaseModel


class Box(BaseModel):
    """Corners in pixels of the image as sent."""

    x1: float
    y1: float
    x2: float
    y2: float


class Detection(BaseModel):
    """One box that answers one prompt."""

    id: str
    defect: str | None  # the class that the prompt names, if it names one
    prompt: str
    score: float
    box: Box


class ImageSize(BaseModel):
    """Size of the image as sent, pixels."""

    width: int
    height: int


class ModelVersion(BaseModel):
    """What looked at the image."""

    name: str
    version: str


class Timings(BaseModel):
    """Milliseconds; total runs from the last byte of the request to the answer."""

    decode: float
    infer: float
    postprocess: float
    total: float


class DetectAnswer(BaseModel):
    """The answer; detections are sorted by score, best first."""

    request_id: str
    image: ImageSize
    model: ModelVersion
    verdict: Literal["ok", "ng"]  # ng: something was found
    detections: list[Detection]
    timings_ms: Timings
