"""Detectors of the versions that Triton serves beside the promoted one, for requests that name them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.models.detector import Detector

MAX_DETECTORS = 3  # each keeps up to 4096 embeddings; the one used longest ago is forgotten


class Beside:
    """Made by `make` when first asked for: nobody pays for a version that nobody names."""

    def __init__(self, make: Callable[[str], Awaitable[Detector]]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._detectors: OrderedDict[str, Detector] = OrderedDict()

    async def get(self, version: str) -> Detector:
        """The detector of a version.

        Raises:
            NotFoundError, UnavailableError: Triton does not serve it, or cannot be asked.
        """
        if version not in self._detectors:
            async with self._making:
                if version not in self._detectors:
                    self._detectors[version] = await self._make(version)
                    while len(self._detectors) > MAX_DETECTORS:
                        self._detectors.popitem(last=False)
        self._detectors.move_to_end(version)
        return self._detectors[version]

    def forget(self, detector: Detector) -> None:
        """Its version is not served any more; the next who asks looks again."""
        if self._detectors.get(detector.served.version) is detector:
            del self._detectors[detector.served.version]

    def clear(self) -> None:
        """Forgets all: Triton may serve others under their numbers."""
        self._detectors.clear()
