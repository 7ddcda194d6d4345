"""Ctrl-C and SIGTERM as a wish to end: what is under way is finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; a second one ends the process at once."""
    ended = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        ended.set()
        signal.signal(number, signal.SIG_DFL)

    former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
