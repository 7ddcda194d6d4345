"""What a request for a detection needs, and its way through: room, words, tiles, boxes, an answer."""

import asyncio
import time
from typing import Literal

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from gateway.answer import Box, DetectAnswer, Detection, ImageSize, ModelVersion, Timings
from gateway.body import DetectParameters, DetectRequest, read_request
from gateway.catalog import Catalog
from gateway.detector import Detector, Reading
from gateway.errors import DeadlineError, OverloadError, ParameterError, ReplacedError, UnavailableError
from gateway.images import decode
from gateway.metrics import OTHER_WORDS, Metrics
from gateway.settings import Settings
from gateway.watch import Watch


class Service:
    """What a request needs: the settings, the models in use, the metrics, and room."""

    def __init__(self, settings: Settings, watch: Watch, metrics: Metrics) -> None:
        self.settings = settings
        self.watch = watch
        self.metrics = metrics
        self.in_flight = 0

    async def detect(self, request: Request, request_id: str) -> DetectAnswer:
        """Reads, decodes, asks and answers; every fault is a ServiceError."""
        if self.in_flight >= self.settings.max_in_flight:
            raise OverloadError(f"{self.in_flight} requests are at work, the limit is {self.settings.max_in_flight}")
        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            asked = await read_request(request, self.settings)
            try:
                async with asyncio.timeout(self.settings.deadline_s):
                    return await self._answer(asked, request_id)
            except TimeoutError:
                raise DeadlineError(f"no answer within {self.settings.deadline_s:g} s") from None
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()

    async def _answer(self, asked: DetectRequest, request_id: str) -> DetectAnswer:
        started = time.perf_counter()
        image = await asyncio.to_thread(decode, asked.image, self.settings.max_image_pixels)
        decode_ms = (time.perf_counter() - started) * 1e3
        while True:
            detector, catalog = self.watch.detector(), self.watch.catalog()
            try:
                reading, texts, defects = await self._ask(detector, catalog, image, asked.parameters)
                break
            except ReplacedError:
                await self.watch.wait_for_another(detector)
            except UnavailableError as error:
                self.watch.lost(error)
                raise
        found = self._detections(reading, texts, defects, request_id)
        total_ms = (time.perf_counter() - started) * 1e3
        verdict: Literal["ok", "ng"] = "ng" if found else "ok"
        self.metrics.verdicts.labels(verdict).inc()
        for stage, milliseconds in (
            ("decode", decode_ms),
            ("infer", reading.infer_ms),
            ("postprocess", reading.postprocess_ms),
        ):
            self.metrics.stage_seconds.labels(stage).observe(milliseconds / 1e3)
        return DetectAnswer(
            request_id=request_id,
            image=ImageSize(width=image.shape[1], height=image.shape[0]),
            model=ModelVersion(name=detector.served.checkpoint_name, version=detector.served.version),
            verdict=verdict,
            detections=found,
            timings_ms=Timings(
                decode=round(decode_ms, 2),
                infer=round(reading.infer_ms, 2),
                postprocess=round(reading.postprocess_ms, 2),
                total=round(total_ms, 2),
            ),
        )

    async def _ask(
        self, detector: Detector, catalog: Catalog, image: NDArray[np.uint8], parameters: DetectParameters
    ) -> tuple[Reading, list[str], list[str | None]]:
        """What the detector reads in the image, the texts that it was asked for and the classes that they name."""
        if parameters.prompt:
            asked = [(text, catalog.recognise(text)) for text in parameters.prompt]
        elif catalog.defects:
            asked = [(defect.names_en[0], defect.id) for defect in catalog.defects]
        else:
            raise ParameterError("the served checkpoint knows no class of the catalog by name; give a prompt")
        texts, defects = [text for text, _ in asked], [defect for _, defect in asked]
        threshold = parameters.score_threshold
        reading = await detector.detect(
            image,
            [catalog.wording(text) for text in texts],
            score_threshold=[
                detector.served.score_threshold(defect) if threshold is None else threshold for defect in defects
            ],
            nms_threshold=parameters.nms_threshold,
            max_detections=parameters.max_detections,
            timeout_s=self.settings.deadline_s,
        )
        return reading, texts, defects

    def _detections(
        self, reading: Reading, texts: list[str], defects: list[str | None], request_id: str
    ) -> list[Detection]:
        found = []
        rows = zip(
            reading.detections.boxes_xyxy.tolist(),
            reading.detections.scores.tolist(),
            reading.detections.class_ids.tolist(),
            strict=True,
        )
        for number, (corners, score, index) in enumerate(rows):
            x1, y1, x2, y2 = (round(value, 2) for value in corners)
            self.metrics.detections.labels(defects[index] or OTHER_WORDS).inc()
            found.append(
                Detection(
                    id=f"{request_id}-{number}",
                    defect=defects[index],
                    prompt=texts[index],
                    score=round(score, 6),
                    box=Box(x1=x1, y1=y1, x2=x2, y2=y2),
                )
            )
        return found


def service_of(request: Request) -> Service:
    """The service of the application that the request came to."""
    service: Service = request.app.state.service
    return service
