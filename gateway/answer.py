"""What POST /detect answers."""

from base64 import b64decode, b64encode
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer

from gateway.catalog.defect import Severity


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _from_base64(data: bytes | str) -> bytes:
    return b64decode(data) if isinstance(data, str) else data


class Box(BaseModel):
    """Corners in pixels of the image as sent."""

    x1: float
    y1: float
    x2: float
    y2: float


class RunLengths(BaseModel):
    """COCO's uncompressed RLE: runs of zeros and ones in turn, column by column, over the whole image."""

    size: tuple[int, int]  # height and width, pixels
    counts: list[int]


class Mask(BaseModel):
    """The pixels of a defect."""

    # model: within the outline that the generative reading wrote; pixels: what stands out in the box; box: all of it.
    source: Literal["model", "pixels", "box"]
    rle: RunLengths
    polygons: list[list[tuple[float, float]]]  # outer outlines in pixels of the image


class Detection(BaseModel):
    """One box that answers one prompt."""

    id: str
    defect: str | None  # the class that the prompt names, if it names one
    severity: Severity | None  # of that class, by the catalog
    prompt: str
    score: float
    box: Box
    mask: Mask | None = Field(default=None, exclude_if=lambda mask: mask is None)  # asked for, and something stands out


class Understood(BaseModel):
    """How a prompt was read; one that means the whole catalog has an entry for each defect."""

    prompt: str
    defect: str | None  # of the catalog, if the prompt names one
    asked: str  # the text that the text encoder was given
    task: Literal["detect", "segment"]
    box_colour: str | None  # #rrggbb, if the prompt names one
    mask_colour: str | None
    usual_threshold: float  # the least score of a request that gives none, of the catalog or of the model that looked


class ImageSize(BaseModel):
    """Size of the image as sent, pixels."""

    width: int
    height: int


class ModelVersion(BaseModel):
    """What looked at the image."""

    name: str
    version: str


class AnnotatedPicture(BaseModel):
    """The image as sent with its detections drawn in; in JSON its bytes are base64."""

    media_type: Literal["image/png", "image/jpeg"]
    data: Annotated[bytes, BeforeValidator(_from_base64), PlainSerializer(_base64, str, when_used="json")]


class Timings(BaseModel):
    """Milliseconds; total runs from the last byte of the request to the answer."""

    decode: float
    infer: float
    postprocess: float
    total: float


class DetectAnswer(BaseModel):
    """The answer; detections are sorted by score, best first."""

    request_id: str
    board_id: str | None  # these three as the request gave them
    camera_id: str | None
    recipe: str | None
    image: ImageSize
    model: ModelVersion
    verdict: Literal["ok", "ng"]  # ng: something at least as grave as `ng_from` was found
    counts: dict[str, int]  # what was found by class; by its prompt, where that names none
    understood: list[Understood]
    detections: list[Detection]
    timings_ms: Timings
    annotated: AnnotatedPicture | None = Field(default=None, exclude_if=lambda picture: picture is None)


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = None


class BatchLine(BaseModel):
    """One line of POST /detect/batch: the answer for one picture, or else the problem with it."""

    index: int  # of the picture in the request, from 0
    name: str | None  # of its file, where the client gave one
    answer: DetectAnswer | None = None
    problem: Problem | None = None
