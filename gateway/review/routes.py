"""GET /inspections, /inspections/{request_id} and its image; POST /feedback."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from gateway.access.actor import actor_of
from gateway.errors import NotFoundError, ParameterError
from gateway.request.arrival import read_small
from gateway.request.json_body import JSON, read_json
from gateway.request.parameters import faults_of
from gateway.review.feedback import Feedback, FeedbackRequest
from gateway.review.inspection import Inspection, InspectionPage, InspectionQuery
from gateway.review.loop import ReviewLoop, review_of
from gateway.review.store import NAME
from gateway.service import Service, service_of

MAX_BODY_BYTES = 2**20  # of feedback
PICTURES = ("image/jpeg", "image/png", "image/bmp", "image/tiff")

ROUTER = APIRouter(tags=["review"])
Model = TypeVar("Model", bound=BaseModel)

ReviewNeeded = Annotated[ReviewLoop, Depends(review_of)]
ServiceNeeded = Annotated[Service, Depends(service_of)]
XActor = Annotated[str | None, Header(description="Who says it; UTF-8.")]
Name = Annotated[
    str,
    Path(
        description="The answer's request_id, or an inspection's as GET /inspections gives it.",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},
    ),
]


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {name: value for name, value in schema.items() if name != "$defs"}


QUERY = [
    {"name": name, "in": "query", "required": False, "schema": schema}
    for name, schema in InspectionQuery.model_json_schema()["properties"].items()
]


@ROUTER.get("/inspections", summary="What was answered, newest first", openapi_extra={"parameters": QUERY})
async def list_inspections(request: Request, review: ReviewNeeded) -> InspectionPage:
    """A page of inspections; its `next` is the next page's `before`."""
    given = request.query_params
    faults = [f"{name} is given more than once" for name in given if len(given.getlist(name)) > 1]
    # A form that leaves a field empty sends it empty.
    query = _validated("query", InspectionQuery, {name: value for name, value in given.items() if value}, faults)
    return await asyncio.to_thread(review.store.page, query)


@ROUTER.get("/inspections/{request_id}", summary="One inspection with its answer and feedback")
async def get_inspection(request_id: Name, review: ReviewNeeded) -> Inspection:
    """As it was recorded, with the feedback that holds."""
    return await asyncio.to_thread(review.store.get, request_id)


@ROUTER.get(
    "/inspections/{request_id}/image",
    summary="The picture of an inspection, as it was sent",
    response_class=Response,
    responses={200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES}}},
)
async def get_image(request_id: Name, review: ReviewNeeded) -> Response:
    """Its bytes in their own format; 404 where none are kept."""
    kept = await asyncio.to_thread(review.store.image_of, request_id)
    if review.images is None:
        raise NotFoundError("this gateway keeps no pictures; set PCBD_IMAGE_STORE to where they are")
    size_bytes, pieces = await asyncio.to_thread(review.images.open, kept.path)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
    return StreamingResponse(pieces, headers=headers | {"Content-Length": str(size_bytes)}, media_type=kept.media_type)


@ROUTER.post(
    "/feedback",
    summary="Say what is right, false and missed in an inspection",
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _schema(FeedbackRequest)}}}},
)
async def give_feedback(
    request: Request, review: ReviewNeeded, service: ServiceNeeded, x_actor: XActor = None
) -> Feedback:
    """Replaces what was said of the inspection before, which stays as history."""
    actor = actor_of(request)
    values = await read_json(await read_small(request, service.settings, {JSON}, MAX_BODY_BYTES))
    given = _validated("feedback", FeedbackRequest, values, [], strict=True)
    catalog = await service.catalog.current()

    def give() -> Feedback:
        service.check_readable(
            (f"missed.{index}.description", missed.description)
            for index, missed in enumerate(given.missed)
            if missed.description is not None
        )
        return review.store.give_feedback(given, actor, catalog.by_id.keys())

    return await asyncio.to_thread(give)


def _validated(
    place: str, model: type[Model], values: Mapping[str, Any], faults: list[str], *, strict: bool = False
) -> Model:
    try:
        valid = model.model_validate(values, strict=strict)
    except ValidationError as error:
        faults += faults_of(error, place)
    if faults:
        raise ParameterError("; ".join(faults))
    return valid
