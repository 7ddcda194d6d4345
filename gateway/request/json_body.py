"""An application/json body: an object whose pictures are base64, read without blocking the event loop for long."""

import asyncio
import binascii
import re
from typing import Any

import jiter

from gateway.errors import MalformedError, ParameterError, TooLargeError

JSON = "application/json"
MAX_VALUES = 100_000  # commas and brackets: what a body can grow to in memory is bounded by its bytes and by this
QUICK_BYTES = 64 * 1024  # below, another thread costs more than the work
BLOCK = 1024 * 1024  # characters decoded at a time: other threads get their turn in between; divisible by 4
URL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*://|data:)", re.IGNORECASE)


async def read_json(body: bytes) -> dict[str, Any]:
    """The object that a body holds.

    Raises:
        MalformedError: it is malformed: syntax, encoding, a name twice, nested too deeply.
        TooLargeError: it has more than MAX_VALUES values.
        ParameterError: it is no object.
    """
    values = sum(body.count(mark) for mark in b",[{")
    if values > MAX_VALUES:
        raise TooLargeError(f"the JSON body has about {values} values, the limit is {MAX_VALUES}")
    try:
        content = _parse(body) if len(body) <= QUICK_BYTES else await asyncio.to_thread(_parse, body)
    except ValueError as error:
        raise MalformedError(f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise ParameterError(f"the JSON body is a {type(content).__name__}, expected an object")
    return content


async def decode_base64(text: str) -> bytes:
    """The bytes of a picture.

    Raises:
        ParameterError: it is not base64; a URL is never fetched.
    """
    if found := URL.match(text):
        raise ParameterError(
            f"the image is the URL {found[0].strip()}...; nothing is fetched, send the file's bytes in base64 and "
            "only these"
        )
    try:
        return _decode(text) if len(text) <= QUICK_BYTES else await asyncio.to_thread(_decode, text)
    except ValueError as error:
        raise ParameterError(
            f"the image is not base64 ({error}); expected A-Z a-z 0-9 + / with = at the end, without line breaks "
            "(base64 -w 0 board.png)"
        ) from error


def _parse(body: bytes) -> Any:  # noqa: ANN401
    return jiter.from_json(body, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)


def _decode(text: str) -> bytes:
    if "=" in text[:-2]:
        raise ValueError("data after the padding")
    return b"".join(
        binascii.a2b_base64(text[start : start + BLOCK], strict_mode=True) for start in range(0, len(text), BLOCK)
    )
