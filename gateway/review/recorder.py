"""Takes every answer and writes it to the database a moment later, so that no detection waits or fails for it.

A bounded queue lies between; one thread empties it, as many records in a transaction as have come. What cannot be
written is dropped and counted: the queue is full, or the database or the image store does not answer. Rows wait little
for their pictures: a store that fails or is slow costs pictures, never answers.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from gateway.answer import DetectAnswer
from gateway.background import end
from gateway.errors import DatabaseError, ImageStoreError
from gateway.review.images import ImageStore
from gateway.review.sampling import reason_of
from gateway.review.store import KeptImage, Record, ReviewStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

LOG = logging.getLogger("gateway.review")
QUEUE_RECORDS = 1000
QUEUE_IMAGE_BYTES = 128 * 2**20  # of the pictures in the queue; beyond, records go without theirs
BATCH_RECORDS = 100  # in one transaction
GATHER_S = 0.01  # for others to come; and the answer is out before its recording takes the interpreter's lock
BATCH_IMAGES_S = 5.0  # for the pictures of a transaction; the rows of the others go without
IMAGES_PAUSE_S = 30.0  # without pictures after one that could not be kept: a store that hangs takes 10 s for each
CLOSE_IMAGES_S = 5.0  # for pictures in the queue when the gateway stops
CLOSE_TIMEOUT_S = 10.0  # then, for what is left of it, which is the put at work and rows
STOPPED = "the gateway stops and the database does not answer"
SLOW_DATABASE = "the database is slower than the line"
SLOW_IMAGES = "the image store is slower than the line"


class _Outage:
    """Tells of trouble once, and once of its end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lasts = False

    def began(self, reason: str) -> None:
        if not self._lasts:
            LOG.warning("%s are not recorded, detection goes on: %s", self._what, reason)
        self._lasts = True

    def ended(self) -> None:
        if self._lasts:
            LOG.info("%s are recorded again", self._what)
        self._lasts = False


class Recorder:
    """Records answers while it is used as a context; `images` is None where no pictures are kept."""

    def __init__(self, store: ReviewStore, images: ImageStore | None, settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._images = images
        self._settings = settings
        self._metrics = metrics
        self._queue: asyncio.Queue[Record] = asyncio.Queue(QUEUE_RECORDS)
        self._image_bytes = 0
        self._images_from = float("-inf")  # of time.monotonic: no picture is kept before
        self._keeping = self._stopping = False
        self._no_records = _Outage("answers")
        self._no_images = _Outage("pictures")
        self._thread = ThreadPoolExecutor(1, "recorder")  # of its own: a slow database holds nothing else up

    def record(self, answer: DetectAnswer, image: bytes, thresholds: Sequence[float]) -> None:
        """Takes an answer, at once; `thresholds` has the usual least score of each entry of its `understood`."""
        if not self._settings.record:
            return
        try:
            settings = self._settings
            reason = reason_of(answer, thresholds, settings.review_margin, settings.review_random_share)
            keep = reason is not None and self._images is not None
            if keep and self._image_bytes + len(image) > QUEUE_IMAGE_BYTES:
                self._metrics.record_images.labels("dropped").inc()
                keep = False
            plain = answer.model_copy(update={"annotated": None})  # whose bytes would wait in the queue
            self._queue.put_nowait(Record(plain, datetime.now(UTC), list(thresholds), reason, image if keep else None))
            self._image_bytes += len(image) if keep else 0
        except asyncio.QueueFull:
            self._drop(1, SLOW_IMAGES if self._keeping else SLOW_DATABASE)
        except Exception:
            LOG.exception("an answer could not be recorded")

    def _write(self, records: Sequence[Record]) -> None:
        """In the thread: keeps their pictures first, so that no row points to what is not there."""
        if self._images is not None:
            self._keep_all(self._images, records)
        try:
            self._store.add(records)
        except DatabaseError:
            if self._images is not None:
                with contextlib.suppress(ImageStoreError):  # then pruning finds them
                    self._images.delete(record.kept.path for record in records if record.kept)
            raise
        self._metrics.records.labels("written").inc(len(records))

    def _keep_all(self, images: ImageStore, records: Sequence[Record]) -> None:
        until, fault = time.monotonic() + BATCH_IMAGES_S, None
        pictures = [(record, record.image) for record in records if record.image is not None]
        for record, image in pictures:
            try:
                record.kept = self._keep(images, image, record.at, until)
            except ImageStoreError as error:
                fault = fault or str(error)
                self._metrics.record_images.labels("dropped").inc()
            else:
                self._metrics.record_images.labels("written").inc()
        if fault is not None:
            self._no_images.began(fault)
        elif pictures:
            self._no_images.ended()

    def _keep(self, images: ImageStore, image: bytes, at: datetime, until: float) -> KeptImage:
        now = time.monotonic()
        if now < self._images_from:
            raise ImageStoreError("the image store failed a moment ago")
        if self._stopping or now > until:
            raise ImageStoreError(SLOW_IMAGES)
        self._keeping = True
        try:
            path, media_type = images.put(image, at)
        except ImageStoreError:
            self._images_from = time.monotonic() + IMAGES_PAUSE_S
            raise
        finally:
            self._keeping = False
        return KeptImage(path, media_type, len(image))

    async def _run(self) -> None:
        while True:
            records = [await self._queue.get()]
            try:
                await asyncio.sleep(GATHER_S)
                while len(records) < BATCH_RECORDS and not self._queue.empty():
                    records.append(self._queue.get_nowait())
                await asyncio.get_running_loop().run_in_executor(self._thread, self._write, records)
                if self._queue.empty():
                    self._no_records.ended()
            except DatabaseError as error:
                self._drop(len(records), str(error))
            except asyncio.CancelledError:
                self._drop(len(records), STOPPED)
                raise
            except Exception:  # the recorder must outlive whatever it meets
                LOG.exception("%d answers could not be recorded", len(records))
                self._metrics.records.labels("dropped").inc(len(records))
            finally:
                for record in records:
                    self._image_bytes -= len(record.image or b"")
                    self._queue.task_done()

    def _drop(self, number: int, reason: str) -> None:
        self._metrics.records.labels("dropped").inc(number)
        self._no_records.began(reason)

    async def __aenter__(self) -> "Recorder":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._images is not None:
            await self._is_written(CLOSE_IMAGES_S)
        self._stopping = True  # the rows wait for the put at work, and for no other
        if not await self._is_written(CLOSE_TIMEOUT_S):
            self._drop(self._queue.qsize(), STOPPED)
        await end(self._task)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _is_written(self, patience_s: float) -> bool:
        """Whether all that is in the queue was written or dropped within that time."""
        try:
            async with asyncio.timeout(patience_s):
                await self._queue.join()
        except TimeoutError:
            return False
        return True
