"""A figure of several rounds: its median, the least and the most."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12


class Spread(TypedDict):
    """Of the rounds."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Of one value a round."""
    median, least, most = (round(float(value), 3) for value in (np.median(values), min(values), max(values)))
    return {"median": median, "least": least, "most": most}


def times(upper: Sequence[float], lower: Sequence[float]) -> Spread:
    """How many times as much the one is as the other, round by round."""
    return spread([a / b for a, b in zip(upper, lower, strict=True)])
