"""Reads a request's picture and parameters, multipart or raw, and never more bytes than allowed."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.errors import ImageError, MediaTypeError, ParameterError, SlowBodyError, TooLargeError
from gateway.images import MEDIA_TYPES
from gateway.settings import Settings

MULTIPART = "multipart/form-data"
IMAGE_FIELD = "image"
MAX_FORM_FIELDS = 200  # more than 64 prompts and the parameters can need
MAX_FIELD_BYTES = 64 * 1024
UNDECODABLE = "\ufffd"  # what the query's decoding leaves of bytes that are not UTF-8


class DetectParameters(BaseModel):
    """The parameters of POST /detect, from form fields or from the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: tuple[str, ...] = ()
    score_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    nms_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.3
    max_detections: Annotated[int, Field(ge=1, le=10_000)] = 200


@dataclass(frozen=True)
class DetectRequest:
    """An encoded picture and how to look at it."""

    image: bytes
    parameters: DetectParameters


async def read_request(request: Request, settings: Settings) -> DetectRequest:
    """Reads POST /detect.

    Raises:
        MediaTypeError, ImageError, ParameterError, SlowBodyError: what is wrong with it.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MULTIPART and not media_type.startswith("image/"):  # its bytes tell which kind of image
        raise MediaTypeError(
            f"Content-Type is {media_type or 'missing'!r}, expected {MULTIPART} or one of {', '.join(MEDIA_TYPES)}"
        )
    _limit(request, settings.max_body_bytes)
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            if media_type == MULTIPART:
                return await _read_form(request, settings)
            image = await request.body()
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {settings.body_timeout_s:g} s; send it again") from None
    except ClientDisconnect:
        raise ImageError("the connection ended before the whole body had arrived") from None
    return DetectRequest(image, read_parameters(request.query_params.multi_items(), settings))


def read_parameters(items: Iterable[tuple[str, str]], settings: Settings) -> DetectParameters:
    """Name-value pairs to parameters; `prompt` may repeat, every other name stands once.

    Raises:
        ParameterError: lists every fault.
    """
    values: dict[str, object] = {}
    prompts: list[str] = []
    faults: list[str] = []
    for name, value in items:
        if name == "prompt":
            prompts.append(value)
        elif name in values:
            faults.append(f"{name} is given more than once")
        else:
            values[name] = value
    if len(prompts) > settings.max_prompts:
        faults.append(f"{len(prompts)} prompts, the limit is {settings.max_prompts}")
    for prompt in prompts:
        if not prompt.strip():
            faults.append("a prompt is blank; leave it out to ask for every class of the catalog")
        elif len(prompt) > settings.max_prompt_characters:
            faults.append(f"a prompt has {len(prompt)} characters, the limit is {settings.max_prompt_characters}")
        elif UNDECODABLE in prompt:
            faults.append("a prompt is not UTF-8; send it in UTF-8, not in the system's own encoding such as GBK")
    try:
        parameters = DetectParameters.model_validate(values | {"prompt": tuple(prompts)})
    except ValidationError as error:
        faults += [
            f"{'.'.join(map(str, fault['loc']))}: {_explain(fault['type'], fault['msg'])}" for fault in error.errors()
        ]
    if faults:
        raise ParameterError("; ".join(faults))
    return parameters


class _Utf8Parser(MultiPartParser):
    """Refuses other bytes than UTF-8, which Starlette would read as Latin-1: words that nobody wrote."""

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode("utf-8")
            except UnicodeDecodeError:
                raise ParameterError(
                    f"form field {part.field_name!r} is not UTF-8; send it in UTF-8, not in the system's own "
                    "encoding such as GBK"
                ) from None
        super().on_part_end()


async def _read_form(request: Request, settings: Settings) -> DetectRequest:
    if request.query_params:
        raise ParameterError("with multipart/form-data every parameter is a form field; the query must be empty")
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() not in {b"utf-8", b"utf8"}:
        raise MediaTypeError(f"the form's charset is {charset.decode('latin-1')!r}, expected utf-8")
    parser = _Utf8Parser(
        request.headers, request.stream(), max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from error
    try:
        uploads = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        if [name for name, _ in uploads] != [IMAGE_FIELD]:
            raise ParameterError(
                f"form files are {[name for name, _ in uploads]}, expected exactly one named {IMAGE_FIELD!r} "
                "with a filename (curl: -F image=@board.png)"
            )
        return DetectRequest(await uploads[0][1].read(), read_parameters(fields, settings))
    finally:
        await form.close()


def _limit(request: Request, max_bytes: int) -> None:
    """Refuses a body as soon as it is known to be too large, by its announced length or by what arrives."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise TooLargeError(f"the body has {announced} bytes, the limit is {max_bytes}; compress the image")
    receive = request._receive
    arrived = 0

    async def counted() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > max_bytes:
            raise TooLargeError(f"the body has more than {max_bytes} bytes, which is the limit; compress the image")
        return message

    request._receive = counted


def _explain(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown name; known are {', '.join((IMAGE_FIELD, *DetectParameters.model_fields))}"
    return message
