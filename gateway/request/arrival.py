"""A request's body on its way in: of a known kind, never more bytes and never slower than allowed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.errors import ImageError, MediaTypeError, OverloadError, SlowBodyError, TooLargeError
from gateway.request.deadline import Deadline
from gateway.settings import Settings

UTF_8 = {b"utf-8", b"utf8"}
SMALLER = "send less at once, or smaller pictures"


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
    """The bodies of a worker that come in or wait for work: many may, slowly, but not large as well.

    The more they are, up to `max_bodies`, the less time a new one has, down to half of it. So those that come together
    do not end together, each with an answer that takes its time.
    """

    def __init__(self, max_bytes: int, max_bodies: int) -> None:
        self._max_bytes = max_bytes
        self._max_bodies = max_bodies
        self._bytes = 0
        self._bodies = 0

    @property
    def patience(self) -> float:
        """Share of the usual time that a new body has."""
        return 1 - 0.5 * min(1.0, self._bodies / self._max_bodies)

    def begins(self) -> None:
        """Another body."""
        self._bodies += 1

    def came(self, count: int) -> None:
        """More of a body is here.

        Raises:
            OverloadError: that is too much of all of them.
        """
        self._bytes += count
        if self._bytes > self._max_bytes:
            raise OverloadError(f"bodies of {self._bytes} bytes are held, the limit is {self._max_bytes}")

    def over(self, count: int) -> None:
        """A body of which so much was here is held no longer."""
        self._bytes -= count
        self._bodies -= 1


class Body:
    """What has come of one body; it counts until its arrival is over, or longer where it is kept."""

    def __init__(self, arriving: Arriving, max_bytes: int) -> None:
        self._arriving = arriving
        self._max_bytes = max_bytes
        self._bytes = 0
        self.kept = False
        arriving.begins()

    def came(self, count: int) -> None:
        """More of it is here.

        Raises:
            TooLargeError, OverloadError: that is too much of it, or of all bodies.
        """
        self._bytes += count
        self._arriving.came(count)
        if self._bytes > self._max_bytes:
            raise TooLargeError(f"the body has more than {self._max_bytes} bytes, which is the limit; {SMALLER}")

    def keep(self) -> Callable[[], None]:
        """Counts it on behind its arrival, until what is returned is called, once."""
        self.kept = True
        return self.over

    def over(self) -> None:
        """It counts no longer."""
        self._arriving.over(self._bytes)


@asynccontextmanager
async def arrival(
    request: Request, settings: Settings, deadline: Deadline, max_bytes: int | None = None
) -> AsyncIterator[Body]:
    """While the body is being read: bounded in bytes and in time, by the request's own deadline and by others' bodies.

    `max_bytes` instead of what a request may have.

    Raises:
        TooLargeError, SlowBodyError, ImageError: it is too large, too slow, or ended before its end.
        OverloadError: too much is arriving already.
    """
    arriving: Arriving = request.app.state.arriving
    patience_s = min(settings.body_timeout_s * arriving.patience, deadline.remaining_s())
    try:
        with _limited(request, arriving, settings.max_body_bytes if max_bytes is None else max_bytes) as body:
            async with asyncio.timeout(patience_s):
                yield body
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
    async with arrival(request, settings, Deadline.of(request, settings), max_bytes):
        return await request.body()


@contextmanager
def _limited(request: Request, arriving: Arriving, max_bytes: int) -> Iterator[Body]:
    """Refuses a body as soon as it is known to be too large, by its announced length or by what arrives."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise TooLargeError(f"the body has {announced} bytes, the limit is {max_bytes}; {SMALLER}")
    body = Body(arriving, max_bytes)
    receive = request._receive

    async def counted() -> Message:
        message = await receive()
        body.came(len(message.get("body", b"")))
        return message

    request._receive = counted
    try:
        yield body
    finally:
        request._receive = receive
        if not body.kept:
            body.over()
