"""The annotated picture that goes with an answer: which kind is wanted, in which language, and what is drawn."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import Headers

from gateway.answer import AnnotatedPicture, DetectAnswer
from gateway.catalog.defect import Defect
from gateway.overlay.drawing import Mark, draw
from gateway.request.negotiation import JPEG, JSON, PNG, Kind, preferred
from gateway.request.parameters import DetectParameters
from gateway.words.wording import Language

KINDS: tuple[Kind, ...] = (JSON, PNG, JPEG)  # what POST /detect can answer, the default first
FORMATS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    PNG: ("PNG", {"compress_level": 6}),
    JPEG: ("JPEG", {"quality": 92, "subsampling": 0}),  # thin coloured lines need full chroma
}
# Of words that name no class of the catalog; in the order of the prompts.
PALETTE = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf")
CHINESE = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Overlay:
    """How the picture is wanted."""

    media_type: Literal["image/png", "image/jpeg"]
    language: Language

    @classmethod
    def wanted(cls, headers: Headers, parameters: DetectParameters) -> "Overlay | None":
        """By Accept: a picture instead of the JSON; else by the parameter `annotated`: a PNG within it."""
        kind = preferred(headers.get("accept"), KINDS)
        if kind == JSON and not parameters.annotated:
            return None
        return cls(PNG if kind == "application/json" else kind, _language(headers, parameters))

    def draw(self, pixels: NDArray[np.uint8], answer: DetectAnswer, defects: Mapping[str, Defect]) -> AnnotatedPicture:
        """The RGB pixels (H, W, 3) with the detections of their answer; `defects` are the catalog's by id.

        Colours are those that the prompt asks for, else the defect's in the catalog.
        """
        asked = {(each.prompt, each.defect): each for each in answer.understood}
        prompts = list(dict.fromkeys(found.prompt for found in answer.detections))
        marks = []
        for found in answer.detections:
            defect, wish = defects.get(found.defect or ""), asked[found.prompt, found.defect]
            usual = defect.colour if defect else PALETTE[prompts.index(found.prompt) % len(PALETTE)]
            marks.append(
                Mark(
                    box_xyxy=(found.box.x1, found.box.y1, found.box.x2, found.box.y2),
                    words=defect.name_in(self.language) if defect else found.prompt,
                    score=found.score,
                    box_colour=wish.box_colour or usual,
                    mask_colour=wish.mask_colour or usual,
                    polygons=found.mask.polygons if found.mask else (),
                )
            )
        kind, options = FORMATS[self.media_type]
        buffer = io.BytesIO()
        draw(Image.fromarray(pixels), marks).save(buffer, kind, **options)
        return AnnotatedPicture(media_type=self.media_type, data=buffer.getvalue())


def negotiated(headers: Headers, answer: DetectAnswer) -> Response:
    """The answer as JSON, or where Accept asks for that its picture: then headers have what a machine must know."""
    if answer.annotated is None or preferred(headers.get("accept"), KINDS) == JSON:
        return Response(answer.model_dump_json(), media_type=JSON)
    told = {
        "X-Verdict": answer.verdict,
        "X-Detections": str(len(answer.detections)),
        "X-Model-Name": quote(answer.model.name),  # headers are ASCII
        "X-Model-Version": answer.model.version,
        "Vary": "Accept, Accept-Language",
    }
    return Response(answer.annotated.data, headers=told, media_type=answer.annotated.media_type)


def _language(headers: Headers, parameters: DetectParameters) -> Language:
    """By Accept-Language; where that leaves it open Chinese if a prompt is Chinese."""
    chinese = any(CHINESE.search(prompt) for prompt in parameters.prompt)
    return preferred(headers.get("accept-language"), ("zh", "en") if chinese else ("en", "zh"), "-")
