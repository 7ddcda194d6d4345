"""A randomly initialised network of a few thousand weights, without a tokenizer."""

import torch
from transformers import BartConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from training.network.modeling_florence2_grounding import Florence2ForGrounding, Florence2GroundingConfig

STRIDE, SIDE = 16, 8  # pixels per image token, cells of the whole tile each way
LONGEST_PROMPT = 12  # tokens


def small_network() -> Florence2ForGrounding:
    """For tiles of 128 pixels, with windows of 4 cells and states of 32 numbers; in evaluation mode."""
    torch.manual_seed(0)
    vision = Florence2VisionConfig(
        depths=(0, 1),
        embed_dim=(8, 16),
        num_heads=(1, 2),
        num_groups=(1, 2),
        patch_size=(7, 3),
        patch_stride=(8, 2),
        patch_padding=(3, 1),
        patch_prenorm=(False, True),
        window_size=4,
        projection_dim=32,
        max_position_embeddings=SIDE + 3,  # as a published one: more rows than a tile has
        drop_path_rate=0.0,
    )
    text = BartConfig(
        vocab_size=1100,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=SIDE * SIDE + 1 + LONGEST_PROMPT,
        dropout=0.0,
    )
    config = Florence2GroundingConfig(
        text_config=text, vision_config=vision, tile_size=SIDE * STRIDE, location_token_id=100, image_token_id=99
    )
    return Florence2ForGrounding(config).eval()
