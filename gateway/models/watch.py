"""Keeps an eye on Triton: the detectors in use, or the reason why there is none."""

import asyncio
import contextlib
import logging
import time

from export.contract.tensors import GROUNDING
from gateway.background import end
from gateway.catalog.live import LiveCatalog
from gateway.catalog.recognition import asked_by
from gateway.errors import (
    AwayError,
    DeadlineError,
    ModelError,
    OverloadError,
    ReplacedError,
    ServiceError,
    UnavailableError,
)
from gateway.models.beside import Beside
from gateway.models.canary import Canary
from gateway.models.circuit import Circuit
from gateway.models.detector import Detector
from gateway.models.prompts import PromptEmbeddings
from gateway.models.served import Served, describe, not_served
from gateway.models.shared_memory import slot_bytes
from gateway.models.trial import try_once
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.words.wording import LANGUAGES, normalise

LOG = logging.getLogger("gateway.models.watch")
REPLACING_INTERVAL_S = 0.1  # between looks while requests wait for the next version


class Watch:
    """Looks at Triton every `watch_interval_s`, at once when a request has failed; has the detector follow it."""

    def __init__(self, settings: Settings, catalog: LiveCatalog, metrics: Metrics) -> None:
        self.circuit = Circuit(
            settings.circuit_failures, settings.watch_interval_s, metrics.circuit_state, metrics.circuit_opened
        )
        self._settings = settings
        self._catalog = catalog
        self._metrics = metrics
        self._detector: Detector | None = None
        self._canary = Canary(settings.canary_version, settings.canary_share)
        self._beside = Beside(self._make_beside)
        self._reason = "the gateway has just started and has not reached Triton yet"
        self._task: asyncio.Task[None] | None = None
        self._waiting = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._whole_at = time.monotonic()  # when the served models last belonged together

    def detector(self) -> Detector:
        """The detector of the promoted version.

        Raises:
            UnavailableError: there is none, or Triton is away; the message says why.
        """
        self.circuit.check()
        if self._detector is None:
            raise UnavailableError(self._reason)
        return self._detector

    def version_for(self, key: str) -> str | None:
        """The canary where it is served and the key is among its share; None, the promoted one, elsewhere."""
        canary = str(self._canary.version)
        return canary if self._canary.takes(key) and canary in self.detector().served.beside else None

    async def detector_of(self, version: str | None) -> Detector:
        """The detector of a version, or of the promoted one; raises as `detector` does.

        Raises:
            NotFoundError: Triton does not serve that version; the message names those that it does.
        """
        if version is None:
            return self.detector()
        if version not in self._served():
            await self.look()  # it may have been put to work since the last one
        if version == (promoted := self.detector()).served.version:
            return promoted
        if version not in (served := self._served()):
            raise not_served(version, served)
        return await self._beside.get(version)

    def _served(self) -> tuple[str, ...]:
        served = self.detector().served
        return served.version, *served.beside

    async def wait_for_another(self, former: Detector) -> None:
        """Waits until `former`, which Triton did not serve just now, is out of use or served again, as it is where a
        promotion was taken back; one request looks for all.
        """
        if former is not self._detector:
            self._beside.forget(former)
            await self.look()
            return
        since = time.monotonic()
        async with self._waiting:
            while self._detector is former and self._whole_at < since and self.circuit.state == "closed":
                await asyncio.sleep(REPLACING_INTERVAL_S)
                await self.look()

    async def look(self) -> None:
        """Compares what Triton serves with what is in use; one look at a time."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        try:
            await self.triton.check_ready(GROUNDING)
            served = await describe(self.triton)
            self._whole_at = time.monotonic()
            await self._prove(served)
            await self.triton.share_memory(slot_bytes(served.dimensions))
            if self._detector is None or self._detector.served != served:
                await self._follow(served)
            self.circuit.look_succeeded()
        except ReplacedError as error:
            # A promotion reaches one model after the other: what is in use stays while requests may still wait for it.
            if self._detector is None or time.monotonic() - self._whole_at > self._settings.deadline_s:
                self._set(None, str(error))
        except (AwayError, DeadlineError) as error:
            self.circuit.look_failed(error)
            if self.circuit.state != "closed":
                self.triton.reconnect(self._settings.deadline_s)
        except ServiceError as error:
            self._set(None, str(error))
            self.circuit.look_succeeded()  # Triton answers; it is what it serves that cannot be used
        self._metrics.ready.set(self._detector is not None and self.circuit.state == "closed")

    async def _prove(self, served: Served) -> None:
        """Where requests have failed, Triton's word that it is ready is not enough."""
        if not self.circuit.is_doubtful:
            return
        self.circuit.trying()
        try:
            await try_once(self.triton, served, GROUNDING, Deadline.within(self._settings.deadline_s))
        except (ModelError, OverloadError) as error:
            raise AwayError(f"an inference was tried: {error}") from error

    async def make(self, served: Served) -> Detector:
        """A detector of a version, with the catalog's names read already: the first request need not wait for them.

        Raises:
            ServiceError: its tokenizer cannot be read, or Triton does not answer.
        """
        prompts = await asyncio.to_thread(PromptEmbeddings, self.triton, served, self._settings.model_repository)
        texts = [
            asked_by(defect, normalise(defect.name_in(language)))
            for defect in self._catalog.latest.everything(served.defects)
            for language in LANGUAGES
        ]
        if readable := [text for text in texts if prompts.fits(text)]:
            await prompts.embed(readable, Deadline.within(self._settings.deadline_s))
        return Detector(self.triton, served, prompts)

    async def _follow(self, served: Served) -> None:
        detector = await self.make(served)
        self._beside.clear()
        self._set(detector, "")

    async def _make_beside(self, version: str) -> Detector:
        return await self.make(await describe(self.triton, version))

    def _set(self, detector: Detector | None, reason: str) -> None:
        if detector is not None:
            served = detector.served
            LOG.info("ready: %s, version %s", served.checkpoint_name, served.version)
            self._metrics.set_model(served.checkpoint_name, served.version, served.checkpoint_sha256)
        elif reason != self._reason:
            LOG.warning("not ready: %s", reason)
        self._detector, self._reason = detector, reason

    async def _run(self) -> None:
        while True:
            self.circuit.doubted.clear()
            try:
                await self.look()
            except Exception:
                LOG.exception("looking at Triton failed")  # the watch must outlive whatever it meets
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.watch_interval_s):
                    await self.circuit.doubted.wait()

    async def __aenter__(self) -> "Watch":
        self.triton = Triton(
            self._settings.triton_url, self._settings.triton_shared_memory
        )  # gRPC belongs to the event loop that it is made in
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end(self._task)
        await self.triton.close()
