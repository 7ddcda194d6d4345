"""How large tiles show a picture, as a command is told it; within what the service takes."""

import argparse
import math

LEAST, MOST = 0.25, 4.0  # those of gateway/request/magnification.py


def magnification(text: str) -> float:
    """A magnification of a command line.

    Raises:
        argparse.ArgumentTypeError: it is no number from LEAST to MOST.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {LEAST:g} to {MOST:g}")
    return value
