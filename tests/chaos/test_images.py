"""Trial 11's decoder: that it ends, dies or hangs is told, with the mutant that did it."""

import math
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized

from tests.chaos.images import decode, decode_all

HANG_S = 0.2


def hang(number: int, at: "Synchronized[int]", told: Connection) -> None:
    """At the last mutant."""
    at.value = number - 1
    time.sleep(3600)


def die(number: int, at: "Synchronized[int]", told: Connection) -> None:
    """At the last mutant."""
    at.value = number - 1
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_decoder_that_hangs_is_ended_and_told() -> None:
    decoded = decode(hang, 4, HANG_S)
    assert (decoded.hung_at, decoded.died_at, decoded.results) == (3, None, {})
    assert math.isnan(decoded.slowest_s)  # which is within no limit


def test_a_decoder_that_dies_is_told() -> None:
    decoded = decode(die, 4, 60)
    assert (decoded.hung_at, decoded.died_at, decoded.results) == (None, 3, {})


def test_a_decoder_that_ends_tells_what_it_found() -> None:
    decoded = decode(decode_all, 8, 60)
    assert (decoded.hung_at, decoded.died_at, sum(decoded.results.values())) == (None, None, 8)
    assert decoded.slowest_s > 0
    assert 10e6 < decoded.peak_bytes < 512e6
