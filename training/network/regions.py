"""Locations within words: a prompt that holds a region asks for the outline of what is in it, and points answer."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from export.contract.locations import NUM_BINS, location_token

REGION = 4  # locations: x1, y1, x2, y2


def regions_of(input_ids: Tensor, first_location: int) -> tuple[Tensor, Tensor]:
    """(B,) whether prompts (B, L) hold a region, four locations, and the ids (n, 4) of those that do.

    Such a prompt is answered by the outline of what is in the region. The answer begins with the region, which is
    given and not read: from there on the decoder writes points.
    """
    located = (input_ids >= first_location) & (input_ids < first_location + NUM_BINS)
    outlined = located.sum(1) == REGION
    return outlined, input_ids[outlined][located[outlined]].view(-1, REGION)


def locations(bins: NDArray[np.int64]) -> str:
    """Bins as text: those of a region ask for the outline of what is in it, and its points answer."""
    return "".join(map(location_token, bins.ravel().tolist()))
