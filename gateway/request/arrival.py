"""A request's body on its way in: of a known kind, never more bytes and never slower than allowed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.errors import ImageError, MediaTypeError, OverloadError, SlowBodyError, TooLargeError
from gateway.request.deadline import Deadline
from gateway.settings import Settings

UTF_8 = {b"utf-8", b"utf8"}


def media_type_of(request: Request) -> str:
    """The Content-Type without its options, in lower case.

    Raises:
        MediaTypeError: an option `charset` names another encoding than UTF-8, or the body is packed.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    charset = options.get(b"charset", b"utf-8")
    if charset.lower() not in UTF_8:
        raise MediaTypeError(f"the body's charset is {charset.decode('latin-1')!r}, expected utf-8")
    packing = request.headers.get("content-encoding", "identity")
    if packing.lower() != "identity":
        raise MediaTypeError(
            f"Content-Encoding is {packing[:40]!r}; send the body as it is, pictures are packed already"
        )
    return media_type.decode("latin-1").strip().lower()


class Arriving:
    """The bytes of all bodies that are on their way in, of one worker: many may be, and slow, but not large as well."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    def came(self, count: int) -> None:
        """More of a body is here.

        Raises:
            OverloadError: that is too much of all of them.
        """
        self._bytes += count
        if self._bytes > self._max_bytes:
            raise OverloadError(f"bodies of {self._bytes} bytes are on their way, the limit is {self._max_bytes}")

    def over(self, count: int) -> None:
        """A body of which so much was here is no longer on its way."""
        self._bytes -= count


@asynccontextmanager
async def arrival(request: Request, settings: Settings, deadline: Deadline) -> AsyncIterator[None]:
    """While the body is being read: bounded in bytes and in time, by the request's own deadline too.

    Raises:
        TooLargeError, SlowBodyError, ImageError: it is too large, too slow, or ended before its end.
        OverloadError: too much is arriving already.
    """
    patience_s = min(settings.body_timeout_s, deadline.remaining_s())
    try:
        with _limited(request, settings.max_body_bytes):
            async with asyncio.timeout(patience_s):
                yield
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {patience_s:.3g} s; send it again") from None
    except ClientDisconnect:
        raise ImageError("the connection ended before the whole body had arrived") from None


async def read_whole(request: Request) -> bytes:
    """A body, which the request does not keep, as it would keep `request.body()`."""
    return b"".join([chunk async for chunk in request.stream()])


async def read_small(request: Request, settings: Settings, media_types: Collection[str], max_bytes: int) -> bytes:
    """A body without pictures.

    Raises:
        MediaTypeError, TooLargeError, SlowBodyError, ImageError: it is of another kind, too large, or did not arrive.
    """
    media_type = media_type_of(request)
    if media_type not in media_types:
        raise MediaTypeError(
            f"Content-Type is {media_type or 'missing'!r}, expected {' or '.join(sorted(media_types))}"
        )
    async with arrival(request, settings, Deadline.of(request, settings)):
        body = await request.body()
    if len(body) > max_bytes:
        raise TooLargeError(f"the body has {len(body)} bytes, the limit is {max_bytes}")
    return body


@contextmanager
def _limited(request: Request, max_bytes: int) -> Iterator[None]:
    """Refuses a body as soon as it is known to be too large, by its announced length or by what arrives."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise TooLargeError(f"the body has {announced} bytes, the limit is {max_bytes}; compress the image")
    arriving: Arriving = request.app.state.arriving
    receive = request._receive
    arrived = 0

    async def counted() -> Message:
        nonlocal arrived
        message = await receive()
        count = len(message.get("body", b""))
        arrived += count
        arriving.came(count)
        if arrived > max_bytes:
            raise TooLargeError(f"the body has more than {max_bytes} bytes, which is the limit; compress the image")
        return message

    request._receive = counted
    try:
        yield
    finally:
        request._receive = receive
        arriving.over(arrived)
