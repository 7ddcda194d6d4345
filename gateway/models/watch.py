"""Keeps an eye on Triton: the detector in use, or the reason why there is none."""

import asyncio
import contextlib
import logging
import time

from gateway.catalog.live import LiveCatalog
from gateway.catalog.recognition import asked_by
from gateway.errors import ReplacedError, ServiceError, UnavailableError
from gateway.models.detector import Detector
from gateway.models.prompts import PromptEmbeddings
from gateway.models.triton import Triton
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.words.wording import LANGUAGES, normalise

LOG = logging.getLogger("gateway.models.watch")
REPLACING_INTERVAL_S = 0.1  # between looks while requests wait for the next version


class Watch:
    """Looks at Triton every `watch_interval_s` and rebuilds the detector when another version is served."""

    def __init__(self, settings: Settings, catalog: LiveCatalog, metrics: Metrics) -> None:
        self._settings = settings
        self._catalog = catalog
        self._metrics = metrics
        self._detector: Detector | None = None
        self._reason = "the gateway has just started and has not reached Triton yet"
        self._task: asyncio.Task[None] | None = None
        self._waiting = asyncio.Lock()
        self._whole_at = time.monotonic()  # when the served models last belonged together

    def detector(self) -> Detector:
        """The detector to ask now.

        Raises:
            UnavailableError: there is none; the message says why.
        """
        if self._detector is None:
            raise UnavailableError(self._reason)
        return self._detector

    def lost(self, error: UnavailableError) -> None:
        """Takes note that a request could not reach Triton: the next are refused at once until it is back."""
        self._set(None, str(error))

    async def wait_for_another(self, former: Detector) -> None:
        """Waits until `former`, whose version Triton no longer serves, is out of use; one request looks for all."""
        async with self._waiting:
            while self._detector is former:
                await self.look()
                if self._detector is former:
                    await asyncio.sleep(REPLACING_INTERVAL_S)

    async def look(self) -> None:
        """Compares what Triton serves with what is in use."""
        try:
            if not await self._triton.is_ready():
                raise UnavailableError(f"Triton at {self._triton.url} is not ready")
            served = await self._triton.describe()
            self._whole_at = time.monotonic()
            if self._detector is not None and self._detector.served == served:
                return
            prompts = PromptEmbeddings(self._triton, served, self._settings.model_repository)
            texts = [
                asked_by(defect, normalise(defect.name_in(language)))
                for defect in self._catalog.latest.everything(served.defects)
                for language in LANGUAGES
            ]
            if readable := [text for text in texts if prompts.fits(text)]:
                await prompts.embed(readable, self._settings.deadline_s)  # the first request need not wait for them
            self._set(Detector(self._triton, served, prompts), "")
        except ReplacedError as error:
            # A promotion reaches one model after the other: what is in use stays while requests may still wait for it.
            if self._detector is None or time.monotonic() - self._whole_at > self._settings.deadline_s:
                self._set(None, str(error))
        except ServiceError as error:
            self._set(None, str(error))

    def _set(self, detector: Detector | None, reason: str) -> None:
        if detector is not None:
            served = detector.served
            LOG.info("ready: %s, version %s", served.checkpoint_name, served.version)
            self._metrics.set_model(served.checkpoint_name, served.version, served.checkpoint_sha256)
        elif reason != self._reason:
            LOG.warning("not ready: %s", reason)
        self._detector, self._reason = detector, reason
        self._metrics.ready.set(detector is not None)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                LOG.exception("looking at Triton failed")  # the watch must outlive whatever it meets
            await asyncio.sleep(self._settings.watch_interval_s)

    async def __aenter__(self) -> "Watch":
        self._triton = Triton(self._settings.triton_url)  # gRPC belongs to the event loop that it is made in
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._triton.close()
