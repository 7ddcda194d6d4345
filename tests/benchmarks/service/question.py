"""What every server is asked: a picture and the twelve defects by their English names, as one and the same JSON."""

import io
import json
from base64 import b64encode
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.defects import DEFECTS
from export.contract.tiles import cut_tiles, tile_origins
from tests.conftest import BOARD

TILE = 256  # pixels: what the shipped checkpoint sees at once
PROMPTS = tuple(defect.names_en[0] for defect in DEFECTS)


@dataclass(frozen=True)
class Question:
    """RGB pixels (H, W, 3), prompts, and further parameters of POST /detect."""

    pixels: NDArray[np.uint8]
    prompts: tuple[str, ...] = PROMPTS
    parameters: tuple[tuple[str, Any], ...] = ()

    def having(self, **parameters: Any) -> "Question":  # noqa: ANN401
        """The same with other parameters."""
        return replace(self, parameters=tuple(parameters.items()))

    @cached_property
    def body(self) -> bytes:
        """As POST /detect takes it; made once, so that it costs no request anything."""
        encoded = io.BytesIO()
        Image.fromarray(self.pixels).save(encoded, "PNG")
        image = b64encode(encoded.getvalue()).decode()
        return json.dumps({"image": image, "prompt": list(self.prompts), **dict(self.parameters)}).encode()

    @property
    def resolution_wh(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return (self.pixels.shape[1], self.pixels.shape[0])

    @cached_property
    def origins(self) -> NDArray[np.int64]:
        """The corners (T, 2) of its tiles."""
        return tile_origins(self.resolution_wh, TILE)

    @cached_property
    def tiles(self) -> NDArray[np.uint8]:
        """Its tiles (T, S, S, 3), for those who are asked without a gateway."""
        return cut_tiles(self.pixels, self.origins, TILE)


def board() -> NDArray[np.uint8]:
    """The demo's board of 640 x 640 pixels: nine tiles."""
    return np.asarray(Image.open(BOARD).convert("RGB"))


def pictures() -> dict[str, Question]:
    """One tile of the board, and the whole of it."""
    whole = board()
    return {"one tile": Question(np.ascontiguousarray(whole[:TILE, :TILE])), "board of nine tiles": Question(whole)}
