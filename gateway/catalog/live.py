"""The catalog as this worker knows it, never older than the request that asks for it.

Every request has the revision read, one number from one row, and the catalog is loaded again when it has changed; what
another worker has committed is therefore live for the next request here. Where the database cannot say it at once,
a thread asks, and requests that come together share a reading.
While the database is away the last known catalog goes on being used, at first the seeds, and the database is tried
again every `interval_s`.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from gateway.background import end
from gateway.catalog.recognition import Catalog
from gateway.catalog.seeds import SEEDS
from gateway.catalog.store import CatalogStore
from gateway.errors import DatabaseError
from gateway.telemetry.metrics import Metrics

LOG = logging.getLogger("gateway.catalog")
START_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 2.0  # what a request waits for a database that hangs; then it counts as away


class LiveCatalog:
    """Reads the catalog of `store`; used as a context while the application runs."""

    def __init__(self, store: CatalogStore, interval_s: float, metrics: Metrics) -> None:
        self.store = store
        self._interval_s = interval_s
        self._metrics = metrics
        self._latest = Catalog(0, SEEDS)
        self._prepared = False  # whether the tables are known to be up to date
        self._away = False
        self._turn = asyncio.Lock()
        self._read_at = 0.0  # when the last reading began
        self._thread = ThreadPoolExecutor(1, "catalog")  # of its own: decoding pictures must not hold it up

    @property
    def latest(self) -> Catalog:
        """The catalog as last read, at once."""
        return self._latest

    async def current(self) -> Catalog:
        """The catalog as it was committed when this was called, or the last known one while the database is away."""
        if self._prepared and not self._away and self.store.revision_at_once() == self._latest.revision:
            return self._latest
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        if not self._away:
            async with self._turn:
                if self._read_at <= asked_at and not self._away:
                    self._read_at = clock()
                    await self._read(READ_TIMEOUT_S)
        return self._latest

    async def _read(self, timeout_s: float) -> None:
        reading = self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._refresh)
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # one given up may fail unseen
        try:
            async with asyncio.timeout(timeout_s):
                catalog = await asyncio.shield(reading)
        except TimeoutError:
            self._lost(f"the database did not answer within {timeout_s:g} s")
        except DatabaseError as error:
            self._lost(str(error))
        else:
            if self._away:
                LOG.info("the catalog is read again, revision %d", catalog.revision)
            self._latest, self._away = catalog, False
            self._metrics.database_up.set(1)
            self._metrics.catalog_revision.set(catalog.revision)

    def _refresh(self) -> Catalog:
        """In the thread: the catalog, the same object while nothing has changed."""
        if not self._prepared:
            self.store.prepare()
            self._prepared = True
        if self.store.revision() == self._latest.revision:
            return self._latest
        return Catalog(*self.store.load())

    def _lost(self, reason: str) -> None:
        if not self._away:
            LOG.warning("detection goes on with the catalog of revision %d: %s", self._latest.revision, reason)
        self._away = True
        self._metrics.database_up.set(0)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._read(START_TIMEOUT_S)
            except Exception:
                LOG.exception("reading the catalog failed")  # the loop must outlive whatever it meets

    async def __aenter__(self) -> "LiveCatalog":
        await self._read(START_TIMEOUT_S)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)
        await asyncio.wait([self._reading], timeout=READ_TIMEOUT_S)  # its connection is given back, and can be closed
        self._thread.shutdown(wait=False, cancel_futures=True)
