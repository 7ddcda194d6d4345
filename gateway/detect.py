"""POST /detect: a picture and words in, a verdict and boxes out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from gateway.answer import DetectAnswer
from gateway.overlay.overlay import negotiated
from gateway.request.negotiation import JPEG, PNG
from gateway.request.schema import detect_schema
from gateway.service import Service, service_of
from gateway.telemetry.measurement import stage

ROUTER = APIRouter()


@ROUTER.post(
    "/detect",
    openapi_extra=detect_schema(),
    response_model=DetectAnswer,
    responses={200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (PNG, JPEG)}}},
    summary="Find what the prompts describe",
)
async def detect(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Send an image as the form file `image`, as base64 in JSON, or raw with the parameters in the query.

    With `Accept: image/png` or `image/jpeg` the answer is the picture with what was found drawn in.
    """
    answer = await service.detect(request, request.state.request_id)
    with stage("serialize"):
        return negotiated(request.headers, answer)
