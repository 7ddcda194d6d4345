"""The grounding reading over whole images: tiles, one pass, merged boxes; the gateway's way, in PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.contract.boxes import Detections, concatenate, nms
from export.contract.tiles import (
    MAX_CANDIDATES,
    best_candidates,
    cut_tiles,
    least_lengths,
    longer_than,
    place_tiles,
    tile_origins,
    tile_side,
)
from training.data.images import magnified
from training.data.lengths import check_lengths
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.tokenizer import encode_batch

TILES_PER_BATCH = 16


@torch.inference_mode()
def embed_prompts(network: Florence2ForGrounding, tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Texts to prompt embeddings (P, D).

    Raises:
        DatasetError: names the texts that are too long for a prompt.
    """
    check_lengths(texts, tokenizer)
    return network.encode_prompts(*encode_batch(tokenizer, texts))


@dataclass(frozen=True)
class TileOutputs:
    """The detector's answers for all tiles of one image: boxes (T, K, 4), scores (T, K, P), origins (T, 2).

    `tile` is what a tile shows of the image, in its pixels each way.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    origins: NDArray[np.int64]
    resolution_wh: tuple[int, int]
    tile: int

    def place(self, score_threshold: float | Sequence[float], prompts: slice = slice(None)) -> Detections:
        """Boxes in pixels of the image, duplicates among them; class_ids index the prompts that `prompts` chooses."""
        scores = self.scores[..., prompts]
        return place_tiles(self.boxes, scores, self.origins, self.resolution_wh, self.tile, score_threshold)


@torch.inference_mode()
def read_tiles(
    network: Florence2ForGrounding, embeddings: torch.Tensor, image: NDArray[np.uint8], magnification: float = 1.0
) -> TileOutputs:
    """One pass over the tiles of an RGB image (H, W, 3), looked at magnified, for prompt embeddings (P, D)."""
    side = tile_side(network.config.tile_size, magnification)
    resolution_wh = (image.shape[1], image.shape[0])
    origins = tile_origins(resolution_wh, side)
    tiles = torch.from_numpy(magnified(cut_tiles(image, origins, side), network.config.tile_size))
    boxes, scores = [], []
    for batch in tiles.split(TILES_PER_BATCH):
        batch_boxes, batch_scores = network.detect(batch, embeddings.expand(len(batch), -1, -1))
        boxes.append(batch_boxes.cpu().numpy())
        scores.append(batch_scores.cpu().numpy())
    return TileOutputs(np.concatenate(boxes), np.concatenate(scores), origins, resolution_wh, side)


def merge_looks(
    looks: Sequence[TileOutputs],
    *,
    score_threshold: float | Sequence[float],
    nms_threshold: float,
    max_detections: int,
    prompts: slice = slice(None),
) -> Detections:
    """One list of boxes of several looks at one image, each at a magnification of its own, as the gateway does it."""
    least = least_lengths([look.tile for look in looks])
    placed = [longer_than(look.place(score_threshold, prompts), least[look.tile]) for look in looks]
    return nms(best_candidates(concatenate(placed), MAX_CANDIDATES), nms_threshold, max_detections)
