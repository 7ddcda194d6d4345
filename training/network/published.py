"""The two layouts that Florence-2 is published in, read as one: configuration fields and names of weights.

`florence-community/Florence-2-*` is transformers' own layout; `microsoft/Florence-2-*` is the older one
of the code that came with the weights. What is said here about the older one is taken from transformers'
models/florence2/convert_florence2_original_pytorch_to_hf.py and from its processing_florence2.py (the
tokens that its processor adds to BART's). Knows nothing of files nor of the grounding head.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import BartConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from export.contract.locations import NUM_BINS, location_token

EMBEDDINGS = "model.language_model.shared.weight"
TIED = (  # names that a file may give to the same tensor
    EMBEDDINGS,
    "model.language_model.encoder.embed_tokens.weight",
    "model.language_model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
LOGITS_BIAS = "language_model.final_logits_bias"  # zeros, of the older layout; the newer one has none
IMAGE_PROJECTION = "image_projection"  # transposed in the older layout, where it is no nn.Linear
RENAMES = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^image_projection$", "model.multi_modal_projector.image_projection.weight"),
    (r"^image_pos_embed\.", "model.multi_modal_projector.image_position_embed."),
    (r"^(image_proj_norm|visual_temporal_embed)\.", r"model.multi_modal_projector.\1."),
    (r"^vision_tower\.convs\.(\d+)\.proj\.", r"vision_tower.convs.\1.conv."),
    (r"^(vision_tower\..*)\.fn\.dw\.", r"\1."),
    (r"^(vision_tower\..*)\.(?:window|channel)_attn\.norm\.", r"\1.norm1."),
    (r"^(vision_tower\..*)\.ffn\.norm\.", r"\1.norm2."),
    (r"^(vision_tower\..*)\.ffn\.fn\.net\.", r"\1.ffn."),
    (r"^(vision_tower\..*_attn)\.fn\.", r"\1."),
    (r"^vision_tower\.", "model.vision_tower."),
)
POOLING = ["spatial_avg_pool", "temporal_avg_pool"]  # the only image tokens that transformers' projector makes
TASK_TOKENS = (  # in this order behind BART's own vocabulary
    *("<od>", "</od>", "<ocr>", "</ocr>"),
    *map(location_token, range(NUM_BINS)),
    *("<cap>", "</cap>", "<ncap>", "</ncap>", "<dcap>", "</dcap>", "<grounding>", "</grounding>", "<seg>", "</seg>"),
    *("<sep>", "<region_cap>", "</region_cap>", "<region_to_desciption>", "</region_to_desciption>"),  # sic
    *("<proposal>", "</proposal>", "<poly>", "</poly>", "<and>"),
)
VISION_FIELDS = (
    *("in_channels", "depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm", "embed_dim"),
    *("num_heads", "num_groups", "window_size", "drop_path_rate", "mlp_ratio", "qkv_bias", "activation_function"),
    *("projection_dim", "max_temporal_embeddings", "max_position_embeddings"),
)
# The shape of BART and its dropout. How the published model generates (beams, n-grams never repeated, a
# forced </s>) stays behind: it forbids naming the same defect twice.
TEXT_FIELDS = (
    *("vocab_size", "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads"),
    *("decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings"),
    *("activation_function", "scale_embedding", "dropout", "attention_dropout", "activation_dropout"),
)


class PretrainedError(ValueError):
    """A folder or hub repository is no Florence-2 that can be fine-tuned here; the message lists every fault."""


def is_older_layout(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is microsoft's, which calls the widths of the stages `dim_embed`."""
    return "dim_embed" in config.get("vision_config", {})


def read_shape(config: Mapping[str, Any]) -> tuple[Florence2VisionConfig, BartConfig]:
    """The vision and language configurations of a config.json of either layout.

    Raises:
        PretrainedError: it is not Florence-2's, or names a variant that transformers does not build.
    """
    if config.get("model_type") != "florence2" or not {"vision_config", "text_config"} <= config.keys():
        raise PretrainedError(
            f"config.json is of model_type {config.get('model_type')!r}, expected 'florence2' with vision_config and "
            "text_config; give florence-community/Florence-2-base, microsoft/Florence-2-base or a copy of one"
        )
    vision = dict(config["vision_config"])
    if is_older_layout(config):
        pooling = vision.get("image_feature_source", POOLING)
        positions, temporal = vision.get("image_pos_embed", {}), vision.get("visual_temporal_embedding", {})
        kinds = (positions.get("type"), temporal.get("type"))
        if pooling != POOLING or kinds != ("learned_abs_2d", "COSINE"):
            raise PretrainedError(
                f"config.json: image_feature_source {pooling} with position embeddings {kinds}, expected {POOLING} "
                "with ('learned_abs_2d', 'COSINE'), as every published Florence-2 has"
            )
        vision["embed_dim"] = vision["dim_embed"]
        vision["max_position_embeddings"] = positions["max_pos_embeddings"]
        vision["max_temporal_embeddings"] = temporal["max_temporal_embeddings"]
    text = config["text_config"]
    return (
        Florence2VisionConfig(**{name: vision[name] for name in VISION_FIELDS if name in vision}),
        BartConfig(**{name: text[name] for name in TEXT_FIELDS if name in text}),
    )


def read_weights(weights: Mapping[str, Tensor], older: bool) -> dict[str, Tensor]:
    """Weights of either layout under transformers' names, in fp32, the tied embeddings once, as EMBEDDINGS.

    Raises:
        PretrainedError: tied tensors differ, or the older layout's bias of the logits is not zero.
    """
    native: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        values = tensor.to(torch.float32)
        if older and name == LOGITS_BIAS:
            if values.any():
                raise PretrainedError(f"{LOGITS_BIAS} is not zero; transformers' Florence-2 has no place for it")
            continue
        if older and name == IMAGE_PROJECTION:
            values = values.T.contiguous()
        native[rename(name) if older else name] = values
    tied = {name: native.pop(name) for name in TIED if name in native}
    if tied:
        first, *others = tied.values()
        if not all(torch.equal(first, other) for other in others):
            raise PretrainedError(f"{', '.join(tied)} are one tensor in Florence-2, but differ in this file")
        native[EMBEDDINGS] = first
    return native


def rename(name: str) -> str:
    """The older layout's name of a weight in transformers' layout."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
