"""What a request for a detection needs, and its way through: room, words, tiles, boxes, an answer."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from export.contract.boxes import Detections
from gateway.answer import Box, DetectAnswer, Detection, ImageSize, ModelVersion, Timings
from gateway.catalog.defect import MAX_FAULTS
from gateway.catalog.live import LiveCatalog
from gateway.catalog.recognition import Catalog
from gateway.errors import OverloadError, ParameterError, ReplacedError, UnavailableError
from gateway.models.acceptance import Acceptance
from gateway.models.detector import Detector
from gateway.models.outlines import Outline
from gateway.models.queue import TileQueue
from gateway.models.watch import Watch
from gateway.overlay.overlay import Overlay
from gateway.pictures.budget import PixelBudget
from gateway.pictures.masks import MAX_MASKS, add_masks
from gateway.pictures.picture import Picture, held_pixels, open_picture
from gateway.request.body import DetectRequest, read_request
from gateway.request.deadline import Deadline
from gateway.request.idempotency import REPLAYED_HEADER, IdempotencyKey, Replies, fingerprint_of, key_of
from gateway.request.model_version import with_model_version
from gateway.request.parameters import DetectParameters
from gateway.request.presence import while_present
from gateway.review.recorder import Recorder
from gateway.settings import Settings
from gateway.telemetry.measurement import current, stage
from gateway.telemetry.metrics import OTHER_WORDS, Metrics
from gateway.verdict import counts, verdict
from gateway.words.asking import Question, questions
from gateway.words.instruction import read_instruction


class Service:
    """What a request needs: the settings, the models in use, the catalog, the metrics, the recorder, and room."""

    def __init__(
        self, settings: Settings, watch: Watch, catalog: LiveCatalog, metrics: Metrics, recorder: Recorder
    ) -> None:
        self.settings = settings
        self.watch = watch
        self.catalog = catalog
        self.metrics = metrics
        self.recorder = recorder
        self.in_flight = 0
        self.queues = {"grounding": TileQueue(), "generative": TileQueue()}  # a tile costs them very different times
        self._pixels = PixelBudget(settings.max_image_pixels)
        self._freed = asyncio.Event()
        self._replies = Replies(DetectAnswer, settings.idempotency_window_s, settings.idempotency_max_bytes)

    async def detect(self, request: Request, request_id: str) -> DetectAnswer:
        """Reads, decodes, asks and answers; every fault is a ServiceError."""
        deadline, key = Deadline.of(request, self.settings), key_of(request)
        self.check_room()
        with stage("body"):  # takes no place: who sends slowly would keep others out
            asked = await read_request(request, self.settings, deadline)
        with self.room():
            asked = replace(asked, parameters=with_model_version(request, asked.parameters))
            request.state.labels.update(asked.parameters.labels())
            overlay = Overlay.wanted(request.headers, asked.parameters)
            answering = self.answer(asked, overlay, request_id, deadline, key)
            # With a key the work goes on: a repeat may come for its answer.
            answer, replayed = await (answering if key else while_present(request, answering))
        request.state.labels.update(model=answer.model.name, model_version=answer.model.version)
        if replayed:
            request.state.headers[REPLAYED_HEADER] = "true"
        return answer

    def check_readable(self, texts: Iterable[tuple[str, str]]) -> None:
        """Refuses texts, each with its place, that the served model cannot read whole; none while none is served.

        Raises:
            ParameterError: such texts cannot be asked for, and are cut where they are learned.
        """
        try:
            fits = self.watch.detector().prompts.fits
        except UnavailableError:
            return
        faults = [
            f"{place}: more tokens than the model reads; say it shorter" for place, text in texts if not fits(text)
        ]
        if faults:
            raise ParameterError("; ".join(faults[:MAX_FAULTS]))

    def check_room(self) -> None:
        """Refuses at once, before a body is read.

        Raises:
            OverloadError: all places are taken.
        """
        if self.in_flight >= self.settings.max_in_flight:
            raise OverloadError(f"{self.in_flight} requests are at work, the limit is {self.settings.max_in_flight}")

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place among the requests at work.

        Raises:
            OverloadError: there is none.
        """
        self.check_room()
        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()
            self._freed.set()

    async def wait_for_room(self) -> None:
        """For one who may wait: until there is a place, which is the first comer's."""
        while self.in_flight >= self.settings.max_in_flight:
            self._freed.clear()
            await self._freed.wait()

    async def answer(
        self,
        asked: DetectRequest,
        overlay: Overlay | None,
        request_id: str,
        deadline: Deadline,
        key: IdempotencyKey | None,
        place: ExitStack | None = None,
    ) -> tuple[DetectAnswer, bool]:
        """The answer within the deadline, and whether it is that of an earlier request with the same idempotency key.

        `place` is held until the work ends, which with a key goes on when the caller is cancelled; who waits for
        another's work leaves it to the caller.

        Raises:
            ServiceError: every fault.
        """

        async def work() -> DetectAnswer:
            with (place or ExitStack()).pop_all():
                async with asyncio.timeout(deadline.remaining_s()):
                    return await self._answer(asked, overlay, request_id, deadline)

        try:
            if key is None:
                return await work(), False
            async with asyncio.timeout(deadline.remaining_s()):
                return await self._replies.get(key, await fingerprint_of(asked, overlay), work)
        except TimeoutError:
            raise deadline.passed() from None

    async def _answer(
        self, asked: DetectRequest, overlay: Overlay | None, request_id: str, deadline: Deadline
    ) -> DetectAnswer:
        self._admit(self.queues[asked.parameters.reading], deadline)
        started = time.perf_counter()
        reading = asyncio.create_task(self._current_catalog())  # while the picture is decoded
        with stage("decode"):
            opened = await asyncio.to_thread(open_picture, asked.image, self.settings)
            picture = await self._pixels.work(opened.pixels, opened.decode)
            by_words = {
                each.prompt for each in map(read_instruction, asked.parameters.prompt) if each.task == "segment"
            }
            if overlay is not None or asked.parameters.task == "segment" or by_words:
                held_pixels(picture)  # refused before anything is asked
        catalog = await reading
        named = asked.parameters.model_version
        while True:
            version = str(named) if named else self.watch.version_for(asked.parameters.board_id or request_id)
            detector = await self.watch.detector_of(version)
            try:
                with self.watch.circuit.guard(deadline):
                    detections, asked_for = await self._ask(detector, catalog, picture, asked.parameters, deadline)
                break
            except ReplacedError:
                await self.watch.wait_for_another(detector)
        everything = self._detections(detections, asked_for, request_id)
        found = everything[: asked.parameters.max_detections]
        segmented = [each for each in found if asked.parameters.task == "segment" or each.prompt in by_words]
        if segmented:
            with stage("masks"):
                pixels, masked = held_pixels(picture), segmented[:MAX_MASKS]
                outlines = await self._outlines(detector, pixels, masked, asked.parameters, deadline)
                await asyncio.to_thread(add_masks, pixels, masked, outlines, deadline)
        judged = verdict(everything, asked.parameters.ng_from)
        self.metrics.verdicts.labels(judged).inc()
        milliseconds = current().milliseconds
        answer = DetectAnswer(
            request_id=request_id,
            **asked.parameters.labels(),
            image=ImageSize(width=picture.resolution_wh[0], height=picture.resolution_wh[1]),
            model=ModelVersion(name=detector.served.checkpoint_name, version=detector.served.version),
            verdict=judged,
            counts=counts(everything),
            understood=[question.understood() for question in asked_for],
            detections=found,
            timings_ms=Timings(
                decode=milliseconds("decode"),
                infer=milliseconds("infer"),
                postprocess=milliseconds("postprocess"),
                total=0.0,
            ),
        )
        if overlay is not None:
            with stage("draw"):
                drawing = partial(overlay.draw, held_pixels(picture), answer, catalog.by_id)
                answer.annotated = await self._pixels.work(opened.pixels, drawing)
        answer.timings_ms.total = round((time.perf_counter() - started) * 1e3, 2)
        self.recorder.record(answer, asked.image, [question.usual_threshold for question in asked_for])
        return answer

    async def _current_catalog(self) -> Catalog:
        with stage("catalog"):
            return await self.catalog.current()

    def _admit(self, queue: TileQueue, deadline: Deadline) -> None:
        """Refuses now what would be too late anyway."""
        wait_s, left_s = queue.expected_wait_s, deadline.remaining_s()
        self.metrics.expected_wait_seconds.set(wait_s)
        if wait_s > left_s:
            raise OverloadError(
                f"{queue.ahead} tiles are ahead, which take about {wait_s:.1f} s, and this request has {left_s:.1f} s "
                "left; send it again later, or allow more time",
                retry_after_s=wait_s - left_s,
            )

    async def _ask(
        self,
        detector: Detector,
        catalog: Catalog,
        picture: Picture,
        parameters: DetectParameters,
        deadline: Deadline,
    ) -> tuple[Detections, tuple[Question, ...]]:
        """What the detector reads in the image, and what it was asked for."""
        asked_for = questions(
            parameters.prompt, parameters.score_threshold, catalog, detector.served, detector.prompts.fits
        )
        detections = await detector.detect(
            picture,
            [question.asked for question in asked_for],
            score_threshold=[question.score_threshold for question in asked_for],
            acceptance=Acceptance(
                [question.defect.minimum_size_px if question.defect else 0 for question in asked_for],
                parameters.regions,
                parameters.excluded_regions,
            ),
            parameters=parameters,
            deadline=deadline,
            queue=self.queues[parameters.reading],
        )
        return detections, asked_for

    async def _outlines(
        self,
        detector: Detector,
        pixels: NDArray[np.uint8],
        found: Sequence[Detection],
        parameters: DetectParameters,
        deadline: Deadline,
    ) -> list[Outline | None]:
        """What the model that found the boxes writes of what is in them; nothing if it has been replaced meanwhile."""
        if not detector.writes_outlines(parameters):
            return [None] * len(found)
        boxes_xyxy = np.array([[each.box.x1, each.box.y1, each.box.x2, each.box.y2] for each in found], np.float32)
        try:
            with self.watch.circuit.guard(deadline):
                return await detector.outlines(pixels, boxes_xyxy, deadline)
        except ReplacedError:
            return [None] * len(found)

    def _detections(self, read: Detections, asked_for: Sequence[Question], request_id: str) -> list[Detection]:
        found = []
        scores: dict[str, list[float]] = {}  # by the metrics' label, of which each is looked up once
        rows = zip(read.boxes_xyxy.tolist(), read.scores.tolist(), read.class_ids.tolist(), strict=True)
        for number, ((x1, y1, x2, y2), score, index) in enumerate(rows):
            question = asked_for[index]
            defect = question.defect
            scores.setdefault(defect.id if defect else OTHER_WORDS, []).append(score)
            found.append(
                Detection(
                    id=f"{request_id}-{number}",
                    defect=defect.id if defect else None,
                    severity=defect.severity if defect else None,
                    prompt=question.prompt,
                    score=round(score, 6),
                    box=Box(x1=round(x1, 2), y1=round(y1, 2), x2=round(x2, 2), y2=round(y2, 2)),
                )
            )
        for label, each in scores.items():
            self.metrics.detections.labels(label).inc(len(each))
            observe = self.metrics.scores.labels(label).observe
            for score in each:
                observe(score)
        return found


async def service_of(request: Request) -> Service:
    """The service of the application that the request came to; asynchronous, since FastAPI gives others a thread."""
    service: Service = request.app.state.service
    return service
