"""POST /detect/batch: several pictures with the same words; a line of JSON for each as soon as it is done."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.answer import BatchLine
from gateway.errors import problem_of
from gateway.overlay.overlay import Overlay
from gateway.request.body import BatchImage, BatchRequest, DetectRequest, read_batch
from gateway.request.deadline import Deadline
from gateway.request.idempotency import IdempotencyKey, key_of
from gateway.request.model_version import with_model_version
from gateway.request.schema import batch_schema
from gateway.service import Service, service_of
from gateway.telemetry.measurement import measured, stage
from gateway.telemetry.problems import log_problem

LOG = logging.getLogger("gateway.batch")
ROUTER = APIRouter()
PATH = "/detect/batch"
NDJSON = "application/x-ndjson"
IMAGES_AT_WORK = 2  # of one batch: enough to keep Triton busy, few enough to leave room to others


class LinesResponse(StreamingResponse):
    """Ends what makes the lines when the client goes away or reads nothing for `patience_s`, and gives up `held`."""

    media_type = NDJSON

    def __init__(
        self,
        lines: AsyncGenerator[bytes, None],
        patience_s: float,
        held: contextlib.AsyncExitStack,
        status_code: int = 200,
    ) -> None:
        super().__init__(lines, status_code)
        self._lines = lines
        self._patience_s = patience_s
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; lines that were never begun hold their pictures no longer than others."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):  # a client that went away has cancelled this task already
                await self._held.aclose()

    async def stream_response(self, send: Send) -> None:
        """Sends line after line."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._patience_s):
                await send(message)

        async with contextlib.aclosing(self._lines):
            try:
                await super().stream_response(in_time)
            except TimeoutError:
                LOG.warning("a client did not read its batch for %g s; the rest is dropped", self._patience_s)


@ROUTER.post(
    PATH,
    openapi_extra=batch_schema(),
    response_class=LinesResponse,
    responses={200: {"description": "Lines of JSON, each with index, name, and answer (as of /detect) or problem."}},
    summary="Find the same in several pictures",
)
async def detect_batch(request: Request, service: Annotated[Service, Depends(service_of)]) -> StreamingResponse:
    """Send form files `image`, or JSON with `images`; the other parameters are those of /detect, for all of them.

    Each line of the answer is one picture's, in the order in which they are done. A picture counts and is limited in
    time like a request of its own, but waits for room; what goes wrong with it stands in its line.
    """
    deadline, key = Deadline.of(request, service.settings), key_of(request)
    service.check_room()
    async with contextlib.AsyncExitStack() as held:
        with stage("body"):
            batch = await read_batch(request, service.settings, deadline, held)
            batch = replace(batch, parameters=with_model_version(request, batch.parameters))
        request.state.labels.update(batch.parameters.labels())
        overlay = Overlay.wanted(request.headers, batch.parameters)
        lines = _lines(batch, service, overlay, request.state.request_id, request.state.labels, deadline, key)
        return LinesResponse(lines, service.settings.send_timeout_s, held.pop_all())


async def _lines(
    batch: BatchRequest,
    service: Service,
    overlay: Overlay | None,
    request_id: str,
    labels: Mapping[str, str | None],
    deadline: Deadline,
    key: IdempotencyKey | None,
) -> AsyncGenerator[bytes, None]:
    waiting = iter(enumerate(batch.images))
    done: asyncio.Queue[BatchLine] = asyncio.Queue(IMAGES_AT_WORK)  # a client that reads slowly holds the work up

    async def line_of(index: int, image: BatchImage) -> BatchLine:
        own_id, own_key = f"{request_id}-{index}", key and key.of_picture(index)
        own_deadline = deadline.again()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(own_deadline.remaining_s()):
                    await service.wait_for_room()
            with (
                contextlib.ExitStack() as place,
                measured(service.metrics),
                stage("picture", {"index": index}),
            ):
                place.enter_context(service.room())
                asked = DetectRequest(await image.read(), batch.parameters)
                answer, _ = await service.answer(asked, overlay, own_id, own_deadline, own_key, place)
        except Exception as error:  # noqa: BLE001 - which log_problem logs
            found = problem_of(error, own_id)
            service.metrics.count_reject(error, PATH)
            log_problem(error, found, labels)
            return BatchLine(index=index, name=image.name, problem=found)
        return BatchLine(index=index, name=image.name, answer=answer)

    async def work() -> None:
        for index, image in waiting:
            line = await line_of(index, image)
            service.metrics.batch_images.labels(str(line.problem.status if line.problem else 200)).inc()
            await done.put(line)

    workers = [asyncio.create_task(work()) for _ in range(min(IMAGES_AT_WORK, len(batch.images)))]
    try:
        for _ in batch.images:
            yield (await done.get()).model_dump_json().encode() + b"\n"
    finally:
        for worker in workers:
            worker.cancel()
        with anyio.CancelScope(shield=True):  # a client that went away has cancelled this task already
            await asyncio.gather(*workers, return_exceptions=True)
