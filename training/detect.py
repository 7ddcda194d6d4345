"""The grounding reading over whole images: tiles, one pass, merged boxes; the gateway's way, in PyTorch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.contract.boxes import Detections
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from training.modeling_florence2_grounding import Florence2ForGrounding
from training.tokenizer import encode_batch

TILES_PER_BATCH = 16


@torch.inference_mode()
def embed_prompts(network: Florence2ForGrounding, tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Texts to prompt embeddings (P, D)."""
    return network.encode_prompts(*encode_batch(tokenizer, texts))


@torch.inference_mode()
def detect_image(
    network: Florence2ForGrounding,
    embeddings: torch.Tensor,
    image: NDArray[np.uint8],
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> Detections:
    """The boxes that one RGB image (H, W, 3) shows for prompt embeddings (P, D); class_ids index the prompts."""
    tile = network.config.tile_size
    resolution_wh = (image.shape[1], image.shape[0])
    origins = tile_origins(resolution_wh, tile)
    tiles = torch.from_numpy(cut_tiles(image, origins, tile))
    boxes, scores = [], []
    for batch in tiles.split(TILES_PER_BATCH):
        batch_boxes, batch_scores = network.detect(batch, embeddings.expand(len(batch), -1, -1))
        boxes.append(batch_boxes.numpy())
        scores.append(batch_scores.numpy())
    return merge_tiles(
        np.concatenate(boxes),
        np.concatenate(scores),
        origins,
        resolution_wh,
        tile,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        max_detections=max_detections,
    )
