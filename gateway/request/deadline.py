"""How long a request may still take, counted from the arrival of its head.

Everything that waits on its way (body, room, words, tiles, Triton's client) waits no longer than what is left.
"""

import re
import time
from dataclasses import dataclass

from fastapi import Request

from gateway.errors import DeadlineError, ParameterError
from gateway.settings import Settings

HEADER = "X-Request-Timeout-Ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Deadline:
    """A point in time of `time.monotonic`, and the seconds that were allowed until then."""

    at: float
    allowed_s: float

    @classmethod
    def of(cls, request: Request, settings: Settings) -> "Deadline":
        """What PCBD_DEADLINE_S allows, or less where the client asks for less by X-Request-Timeout-Ms.

        Raises:
            ParameterError: the header is no whole number of milliseconds.
        """
        allowed_s = settings.deadline_s
        given = request.headers.get(HEADER)
        if given is not None:
            if not MILLISECONDS.fullmatch(given):
                raise ParameterError(f"{HEADER} is {given!r}, expected whole milliseconds from 1 to 999999999")
            allowed_s = min(allowed_s, int(given) / 1e3)
        return cls(request.state.arrived + allowed_s, allowed_s)

    @classmethod
    def within(cls, seconds: float) -> "Deadline":
        """That many seconds from now on."""
        return cls(time.monotonic() + seconds, seconds)

    def again(self) -> "Deadline":
        """As much time once more, from now on."""
        return Deadline.within(self.allowed_s)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at

    def remaining_s(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            DeadlineError: none.
        """
        remaining = self.at - time.monotonic()
        if remaining <= 0:
            raise self.passed()
        return remaining

    def passed(self) -> DeadlineError:
        """What a client is told when it is too late."""
        return DeadlineError(f"no answer within {self.allowed_s:g} s; send it again later, or allow more time")
