"""The circuit breaker before Triton: after failures in a row requests are refused at once, until an inference works.

    closed      requests go to Triton
    open        they are refused, with the reason and when to try again
    half-open   the watch tries one inference; no request is spent on finding out

Two looks at Triton that fail one after the other open it; one is enough once a request has failed to reach Triton,
after which the watch looks at once. `failures` requests in a row that fail open it as well: Triton's health may be
good while a model hangs. Knows neither Triton nor HTTP.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import Counter, Gauge

from gateway.errors import AwayError, DeadlineError, UnavailableError
from gateway.request.deadline import Deadline

LOG = logging.getLogger("gateway.models.circuit")
FAILED_LOOKS = 2
LATE_S = 1.0  # a request that gives Triton less time says nothing of it by being late
State = Literal["closed", "half-open", "open"]
VALUES: dict[State, int] = {"closed": 0, "half-open": 1, "open": 2}


class Circuit:
    """Counts what comes of requests and of looks.

    `gauge` shows the state, `opened` counts how often it opened, which a scrape may see nothing of; `retry_s` is how
    often it is tried, `clock` tells seconds.
    """

    def __init__(
        self,
        failures: int,
        retry_s: float,
        gauge: Gauge,
        opened: Counter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state: State = "closed"
        self.doubted = asyncio.Event()  # a request has failed: whoever looks should not wait
        self._failures = failures
        self._retry_s = retry_s
        self._gauge = gauge
        self._opened = opened
        self._clock = clock
        self._failed_requests = 0
        self._failed_looks = 0
        self._succeeded_at = -math.inf
        self._reason = ""

    def check(self) -> None:
        """Passes while the circuit is closed.

        Raises:
            UnavailableError: it is not.
        """
        if self.state != "closed":
            raise UnavailableError(self._reason, retry_after_s=self._retry_s)

    @contextmanager
    def guard(self, deadline: Deadline) -> Iterator[None]:
        """Around a request's inferences: takes note of what comes of them.

        Raises:
            UnavailableError: the circuit is open.
        """
        self.check()
        began = self._clock()
        try:
            yield
        except AwayError as error:
            self.request_failed(error)
            raise
        except (DeadlineError, asyncio.CancelledError):
            # Not where the client is gone, left Triton little time, or others were answered meanwhile.
            late = deadline.is_over and self._clock() - began >= LATE_S
            if late and self._succeeded_at < began:
                self.request_failed(DeadlineError("Triton did not answer in time"))
            raise
        else:
            self.request_succeeded()

    @property
    def is_doubtful(self) -> bool:
        """Whether an inference must work before Triton is trusted again."""
        return self.state != "closed" or self._failed_requests > 0

    def request_failed(self, error: Exception) -> None:
        """A request got no answer from Triton."""
        self._failed_requests += 1
        self.doubted.set()
        if self._failed_requests >= self._failures:
            self._open(f"{error}, {self._failed_requests} requests in a row")

    def request_succeeded(self) -> None:
        """A request got its answer; that of one begun before the circuit opened closes nothing."""
        self._succeeded_at = self._clock()
        self._failed_requests = 0

    def look_failed(self, error: Exception) -> None:
        """Triton did not answer a look, or not the inference that was tried."""
        self._failed_looks += 1
        if self.is_doubtful or self._failed_looks >= FAILED_LOOKS:
            self._open(str(error))

    def trying(self) -> None:
        """An inference is tried."""
        if self.state == "open":
            self._set("half-open")

    def look_succeeded(self) -> None:
        """Triton answered, the inference too where it was doubtful."""
        self._failed_looks = self._failed_requests = 0
        if self.state != "closed":
            LOG.info("Triton answers again")
            self._set("closed")

    def _open(self, reason: str) -> None:
        if self.state == "closed":
            LOG.warning("requests are refused until Triton answers: %s", reason)
            self._opened.inc()
        self._reason = reason
        self._set("open")

    def _set(self, state: State) -> None:
        self.state = state
        self._gauge.set(VALUES[state])
