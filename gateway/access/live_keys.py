"""The keys as this worker knows them: all of them, read again when they are FRESH_S old and somebody asks.

Whole rather than one by one: there are few, and whoever guesses ids costs the database nothing more. What was revoked
or made elsewhere counts here after at most FRESH_S. While the database is away known keys go on for GRACE_S, and
nothing can be said of others.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from gateway.access.key import Key
from gateway.access.store import KeyStore
from gateway.errors import DatabaseError

LOG = logging.getLogger("gateway.access.live_keys")
FRESH_S = 5.0
GRACE_S = 600.0
READ_TIMEOUT_S = 2.0  # what a request waits for a database that hangs; then it counts as away


class LiveKeys:
    """Reads the keys of `store`; used as a context while the application runs."""

    def __init__(self, store: KeyStore, *, fresh_s: float = FRESH_S, grace_s: float = GRACE_S) -> None:
        self._store = store
        self._fresh_s = fresh_s
        self._grace_s = grace_s
        self._keys: dict[str, Key] = {}
        self._read_at = self._tried_at = float("-inf")  # when the last good reading began, and the last of all
        self._away = False
        self._reading: asyncio.Future[dict[str, Key]] | None = None
        self._thread = ThreadPoolExecutor(1, "keys")  # of its own: decoding pictures must not hold it up

    async def find(self, key_id: str) -> Key | None:
        """The key of that id, None where there is none.

        Raises:
            DatabaseError: the database is away, and the key is not among those known or was read too long ago.
        """
        now = asyncio.get_running_loop().time()
        if self._reading is None and now - self._tried_at >= self._fresh_s:
            self._read(now)
        if self._reading is not None and not self._away:  # otherwise known keys need not wait for it
            _, late = await asyncio.wait({self._reading}, timeout=READ_TIMEOUT_S)
            if late:
                self._lost(f"the database did not answer within {READ_TIMEOUT_S:g} s")
        key = self._keys.get(key_id)
        if not self._away:
            return key
        if key is not None and now - self._read_at < self._grace_s:
            return key
        raise DatabaseError("the API key cannot be checked, since the database does not answer; try again later")

    def _read(self, now: float) -> None:
        self._tried_at = now
        reading = self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._store.load)

        def take(done: asyncio.Future[dict[str, Key]]) -> None:
            self._reading = None
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                self._lost(str(error))
                return
            if self._away:
                LOG.info("API keys are read again")
            self._keys, self._read_at, self._away = done.result(), now, False

        reading.add_done_callback(take)

    def _lost(self, reason: str) -> None:
        if not self._away:
            LOG.warning("known API keys go on for %g s: %s", self._grace_s, reason)
        self._away = True

    async def __aenter__(self) -> "LiveKeys":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=READ_TIMEOUT_S)  # its connection is given back
        self._thread.shutdown(wait=False, cancel_futures=True)
