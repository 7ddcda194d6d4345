"""A request's pictures and parameters, from a form, JSON or a raw body; its faults are named together."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.errors import MediaTypeError, ParameterError
from gateway.pictures.images import MEDIA_TYPES
from gateway.request.arrival import arrival, media_type_of, read_whole
from gateway.request.deadline import Deadline
from gateway.request.form import MULTIPART, Form, read_form
from gateway.request.json_body import JSON, decode_base64, read_json
from gateway.request.parameters import IMAGE_FIELD, DetectParameters, faults_of, read_json_parameters, read_parameters
from gateway.settings import Settings

IMAGES_FIELD = "images"  # of a batch in JSON


class BatchMember(BaseModel):
    """One picture of a batch in JSON; the parameters beside the list are shared by all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str  # base64
    name: Annotated[str, Field(max_length=255)] | None = None


MEMBERS = TypeAdapter(list[BatchMember])


@dataclass(frozen=True)
class DetectRequest:
    """An encoded picture and how to look at it."""

    image: bytes
    parameters: DetectParameters


@dataclass(frozen=True)
class BatchImage:
    """One picture of a batch, read when its turn comes; `name` is its file's, where the client gave one."""

    name: str | None
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class BatchRequest:
    """Several pictures and how to look at all of them."""

    images: list[BatchImage]
    parameters: DetectParameters


async def read_request(request: Request, settings: Settings, deadline: Deadline) -> DetectRequest:
    """Reads POST /detect.

    Raises:
        MediaTypeError, MalformedError, ImageError, ParameterError, TooLargeError, SlowBodyError, DeadlineError: what
            is wrong with it.
    """
    media_type = media_type_of(request)
    if media_type not in {MULTIPART, JSON} and not media_type.startswith("image/"):  # its bytes tell which kind
        raise MediaTypeError(_expected(media_type, (MULTIPART, JSON, *MEDIA_TYPES)))
    async with arrival(request, settings, deadline):
        if media_type == MULTIPART:
            async with read_form(request, max_files=1) as form:
                faults = _form_faults(request, form)
                if len(form.files) != 1:
                    faults.append(f"{len(form.files)} files, expected one named {IMAGE_FIELD!r}")
                parameters = read_parameters(_without_image(form), settings, faults)
                return DetectRequest(await form.files[0][1].read(), parameters)
        body = await read_whole(request)
    if media_type == JSON:
        return await _read_json_request(request, body, settings)
    return DetectRequest(body, read_parameters(request.query_params.multi_items(), settings))


async def read_batch(request: Request, settings: Settings, deadline: Deadline, held: AsyncExitStack) -> BatchRequest:
    """Reads POST /detect/batch; raises as `read_request` does. What is wrong with one picture is found later.

    What its pictures lie in, and how much that is, is given up when `held` is.
    """
    media_type = media_type_of(request)
    if media_type not in {MULTIPART, JSON}:
        raise MediaTypeError(_expected(media_type, (MULTIPART, JSON)))
    async with arrival(request, settings, deadline) as body:
        held.callback(body.keep())  # the pictures wait for room
        if media_type == MULTIPART:
            return _form_batch(
                request, await held.enter_async_context(read_form(request, settings.max_batch_images)), settings
            )
        whole = await read_whole(request)
    return await _read_json_batch(request, whole, settings)


def _form_batch(request: Request, form: Form, settings: Settings) -> BatchRequest:
    faults = _form_faults(request, form)
    images = [BatchImage(file.filename or None, file.read) for _, file in form.files]
    faults += _number_faults(images, settings)
    return BatchRequest(images, read_parameters(_without_image(form), settings, faults))


async def _read_json_request(request: Request, body: bytes, settings: Settings) -> DetectRequest:
    values = await read_json(body)
    faults = _query_faults(request)
    encoded, image = values.pop(IMAGE_FIELD, None), b""
    if not isinstance(encoded, str):
        faults.append(f"{IMAGE_FIELD} is {_kind(encoded)}, expected the bytes of a file in base64")
    else:
        try:
            image = await decode_base64(encoded)
        except ParameterError as error:
            faults.append(str(error))
    return DetectRequest(image, read_json_parameters(values, settings, faults))


async def _read_json_batch(request: Request, body: bytes, settings: Settings) -> BatchRequest:
    values = await read_json(body)
    faults = _query_faults(request)
    listed: list[BatchMember] = []
    try:
        listed = MEMBERS.validate_python(values.pop(IMAGES_FIELD, None), strict=True)
        faults += _number_faults(listed, settings)
    except ValidationError as error:
        faults += faults_of(error, IMAGES_FIELD)
    images = [BatchImage(member.name, partial(decode_base64, member.image)) for member in listed]
    return BatchRequest(images, read_json_parameters(values, settings, faults))


def _query_faults(request: Request) -> list[str]:
    return ["with a form or JSON every parameter is in the body; the query must be empty"] * bool(request.query_params)


def _form_faults(request: Request, form: Form) -> list[str]:
    faults = _query_faults(request)
    faults += [f"a file is named {name!r}, expected {IMAGE_FIELD!r}" for name, _ in form.files if name != IMAGE_FIELD]
    if any(name == IMAGE_FIELD for name, _ in form.fields):
        faults.append(
            f"{IMAGE_FIELD} is a form field without a filename, which is text; "
            "send a file, nothing is fetched from elsewhere (curl: -F image=@board.png)"
        )
    return faults


def _without_image(form: Form) -> list[tuple[str, str]]:
    return [(name, value) for name, value in form.fields if name != IMAGE_FIELD]


def _number_faults(images: list[Any], settings: Settings) -> list[str]:
    if 1 <= len(images) <= settings.max_batch_images:
        return []
    return [f"{len(images)} images, expected 1 to {settings.max_batch_images}"]


def _expected(media_type: str, known: tuple[str, ...]) -> str:
    return f"Content-Type is {media_type or 'missing'!r}, expected one of {', '.join(known)}"


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
