"""Answers kept for a while under the client's Idempotency-Key, so that a repeated request costs no work.

After draft-ietf-httpapi-idempotency-key-header. In this worker's memory: with several workers a repeat that comes to
another one is worked on again, which gives the same boxes under another request_id.
"""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel

from gateway.errors import ParameterError
from gateway.overlay.overlay import Overlay
from gateway.request.body import DetectRequest

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
KEY = re.compile(r'"([!#-~]{1,200})"|([!#-~]{1,200})')  # a structured field's string, or the bare key

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class IdempotencyKey:
    """What a client calls a request. `owner` is its API key's id, so that two may count alike; None without keys."""

    text: str
    owner: str | None = None

    def of_picture(self, index: int) -> "IdempotencyKey":
        """That of one picture of a batch."""
        return replace(self, text=f"{self.text}/{index}")


@dataclass(frozen=True)
class _Work(Generic[Answer]):
    fingerprint: bytes
    task: asyncio.Task[Answer]


@dataclass(frozen=True)
class _Reply:
    fingerprint: bytes
    until: float  # of time.monotonic
    content: bytes  # the answer as JSON: its size is known


class Replies(Generic[Answer]):
    """Answers of one kind by key, each for `window_s` seconds, together at most `max_bytes`: the oldest go first."""

    def __init__(self, kind: type[Answer], window_s: float, max_bytes: int) -> None:
        self._kind = kind
        self._window_s = window_s
        self._max_bytes = max_bytes
        self.kept_bytes = 0
        self._at_work: dict[IdempotencyKey, _Work[Answer]] = {}
        self._done: OrderedDict[IdempotencyKey, _Reply] = OrderedDict()

    async def get(
        self, key: IdempotencyKey, fingerprint: bytes, work: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> tuple[Answer, bool]:
        """The answer of the first request with that key, and whether this one is a repeat.

        A repeat while the first is at work waits for it and shares its fate; what failed is not kept.

        Raises:
            ParameterError: the key came with another picture or other parameters.
        """
        self._forget()
        known = self._at_work.get(key) or self._done.get(key)
        if known is not None and known.fingerprint != fingerprint:
            raise ParameterError(
                f"{HEADER} {key.text!r} has come with another image or other parameters; every new request needs a "
                "new key"
            )
        if isinstance(known, _Reply):
            return self._kind.model_validate_json(known.content), True
        if known is None:
            known = self._at_work[key] = _Work(fingerprint, asyncio.create_task(work()))
            known.task.add_done_callback(lambda task: self._finish(key, fingerprint, task))
            return await asyncio.shield(known.task), False  # a client that goes away leaves the work to the next
        return await asyncio.shield(known.task), True

    def _finish(self, key: IdempotencyKey, fingerprint: bytes, task: asyncio.Task[Answer]) -> None:
        del self._at_work[key]
        if task.cancelled() or task.exception() is not None:
            return
        content = task.result().model_dump_json().encode()
        self._done[key] = _Reply(fingerprint, time.monotonic() + self._window_s, content)
        self.kept_bytes += len(content)
        self._forget()

    def _forget(self) -> None:
        while self._done:
            oldest = next(iter(self._done.values()))
            if self.kept_bytes <= self._max_bytes and oldest.until > time.monotonic():
                return
            _, dropped = self._done.popitem(last=False)
            self.kept_bytes -= len(dropped.content)


def key_of(request: Request) -> IdempotencyKey | None:
    """The request's key, if it has one.

    Raises:
        ParameterError: it is no key.
    """
    given = request.headers.get(HEADER)
    if given is None:
        return None
    match = KEY.fullmatch(given)
    if match is None:
        raise ParameterError(f"{HEADER} is {given[:40]!r}, expected 1 to 200 visible ASCII characters, as in a UUID")
    return IdempotencyKey(match[1] or match[2], request.state.key and request.state.key.id)


async def fingerprint_of(asked: DetectRequest, overlay: Overlay | None) -> bytes:
    """A digest of picture, parameters and the kind of answer, equal whichever way they came in."""

    def digest() -> bytes:
        found = hashlib.sha256(f"{overlay!r}{asked.parameters!r}".encode())
        found.update(b"\0")
        found.update(asked.image)
        return found.digest()

    return await asyncio.to_thread(digest)
