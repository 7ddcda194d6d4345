"""How long a request would wait now: the tiles ahead of it, and how fast Triton has been at tiles of late.

The rate is wall time while there was work, divided by tiles that came back in it: how many of them Triton works at
side by side is in it already, and what other workers ask of the same Triton as well. An idle or new queue expects no
wait; one from which nothing has come back for longer than its rate says expects that it goes on so for as long again.
"""

import time
from collections.abc import Callable

SMOOTHING_TILES = 100.0  # tiles after which an observation weighs 1/e of a new one


class TileQueue:
    """The tiles of the pictures at work in this process; `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.ahead = 0  # tiles that were promised and have not come back
        self._since = 0.0  # when the last tiles came back, or the first after a pause were promised
        self._seconds = 0.0  # both fade, so that their ratio is that of late
        self._tiles = 0.0

    @property
    def expected_wait_s(self) -> float:
        """Seconds until the tiles ahead have come back."""
        if not self.ahead or not self._tiles:
            return 0.0
        return max(self.ahead * self._seconds / self._tiles, self._clock() - self._since)

    def promise(self, tiles: int) -> "Promise":
        """A picture of that many tiles is at work, until its promise is closed."""
        if self.ahead == 0:
            self._since = self._clock()
        self.ahead += tiles
        return Promise(self, tiles)

    def _came_back(self, tiles: int) -> None:
        now = self._clock()
        fading = max(0.0, 1 - tiles / SMOOTHING_TILES)
        self._seconds = self._seconds * fading + now - self._since
        self._tiles = self._tiles * fading + tiles
        self._since = now
        self.ahead -= tiles


class Promise:
    """A picture's part in the queue."""

    def __init__(self, queue: TileQueue, tiles: int) -> None:
        self._queue = queue
        self._left = tiles

    def came_back(self, tiles: int) -> None:
        """Triton has answered that many of them."""
        self._left -= tiles
        self._queue._came_back(tiles)

    def close(self) -> None:
        """What has not come back by now never will."""
        self._queue.ahead -= self._left
        self._left = 0
