"""The shipped checkpoint as a user of transformers would serve it: PyTorch in fp32, `generate`, one thread.

Answers are tokens read as boxes, without scores, which `generate` has none of, and without merging, which is the
servers' gain. Imports nothing of FastAPI, LitServe and Triton.
"""

import io
import time
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from export.contract.tensors import GENERATED_TOKENS
from export.contract.tiles import cut_tiles, tile_origins
from export.graphs.checkpoint import load_checkpoint
from gateway.models.generator import read_boxes
from tests.benchmarks.transformers_generate import transformers_generate
from tests.conftest import CHECKPOINT

THREADS = 1


@dataclass(frozen=True)
class Work:
    """A decoded request: tiles (T, S, S, 3), their corners (T, 2) and the prompts."""

    tiles: NDArray[np.uint8]
    origins: NDArray[np.int64]
    prompts: tuple[str, ...]


class Peer:
    """Answers requests of {"image": base64, "prompt": [...]}."""

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        self._checkpoint = load_checkpoint(CHECKPOINT)
        network: Any = self._checkpoint.network
        self._first_location = network.config.location_token_id

    def read(self, body: dict[str, Any]) -> Work:
        """A request's tiles, cut as the gateway cuts them."""
        pixels = np.asarray(Image.open(io.BytesIO(b64decode(body["image"]))).convert("RGB"))
        tile = self._checkpoint.dimensions.tile
        origins = tile_origins((pixels.shape[1], pixels.shape[0]), tile)
        return Work(cut_tiles(pixels, origins, tile), origins, tuple(body["prompt"]))

    def per_prompt(self, work: Work) -> dict[str, Any]:
        """`generate` for each tile and prompt."""
        began = time.perf_counter()
        rows = [self._generate(tile[None], (prompt,)) for tile in work.tiles for prompt in work.prompts]
        return self._answer(work, [row for tokens in rows for row in tokens], began)

    def image_once(self, works: list[Work]) -> list[dict[str, Any]]:
        """`generate` for all tiles and prompts of requests that ask the same, at once; each image is encoded once."""
        began = time.perf_counter()
        rows = list(self._generate(np.concatenate([work.tiles for work in works]), works[0].prompts))
        ends = np.cumsum([len(work.tiles) * len(work.prompts) for work in works])
        starts = [0, *ends[:-1]]
        return [
            self._answer(work, rows[start:end], began) for work, start, end in zip(works, starts, ends, strict=True)
        ]

    def _generate(self, tiles: NDArray[np.uint8], prompts: tuple[str, ...]) -> Tensor:
        words = self._checkpoint.prompt_inputs(prompts)
        return transformers_generate(self._checkpoint, tiles, words, GENERATED_TOKENS)

    def _answer(self, work: Work, rows: list[Tensor], began: float) -> dict[str, Any]:
        tile, boxes = self._checkpoint.dimensions.tile, []
        for number, row in enumerate(rows):
            tokens = row.numpy()
            found, _ = read_boxes(tokens, np.zeros(len(tokens), np.float32), self._first_location)
            corner = np.tile(work.origins[number // len(work.prompts)], 2)
            prompt = work.prompts[number % len(work.prompts)]
            boxes += [{"prompt": prompt, "box": box} for box in (found * tile + corner).round(2).tolist()]
        tokens_made = sum(int((row >= self._first_location).sum()) for row in rows)
        return {
            "boxes": boxes,
            "location_tokens": tokens_made,
            "milliseconds": round((time.perf_counter() - began) * 1e3, 2),
        }
