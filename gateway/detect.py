"""POST /detect: a picture and words in, a verdict and boxes out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from gateway.answer import DetectAnswer
from gateway.body import DetectParameters
from gateway.images import MEDIA_TYPES
from gateway.service import Service, service_of

ROUTER = APIRouter()


def _schema() -> dict[str, Any]:
    """The request of POST /detect for OpenAPI; the body is read by hand, so that its size can be limited."""
    fields: dict[str, Any] = DetectParameters.model_json_schema()["properties"]
    fields["prompt"]["description"] = "Words for what to find; may repeat. None means every class of the catalog."
    fields["score_threshold"]["description"] = "Least score; by default what the served checkpoint sets for each class."
    image = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["image"], "properties": {"image": image, **fields}}
    content = {"multipart/form-data": {"schema": form}} | {name: {"schema": image} for name in MEDIA_TYPES}
    query = [
        {"name": name, "in": "query", "required": False, "schema": field}
        | {"description": "With a raw image body only; with multipart/form-data a form field."}
        for name, field in fields.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


@ROUTER.post("/detect", openapi_extra=_schema(), summary="Find what the prompts describe")
async def detect(request: Request, service: Annotated[Service, Depends(service_of)]) -> DetectAnswer:
    """Send an image as the form file `image`, or as a raw `image/*` body with the parameters in the query."""
    return await service.detect(request, request.state.request_id)
