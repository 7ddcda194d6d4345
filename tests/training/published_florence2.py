"""Writes Florence-2 with random weights to a folder, in either of the two layouts that it is published in."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration
from transformers.initialization import no_init_weights
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from training.network.published import TASK_TOKENS
from training.network.tokenizer import UNK
from training.prompts import corpus

# microsoft/Florence-2-base, config.json. The vocabulary there is 51289: BART's 50265 and 1024 task tokens.
BASE: dict[str, Any] = {
    "embed_dim": (128, 256, 512, 1024),
    "depths": (1, 1, 9, 1),
    "heads": (4, 8, 16, 32),
    "width": 768,
    "layers": 6,
    "text_heads": 12,
    "ffn": 3072,
    "positions": 1024,
    "text_tokens": 50265,
}
SMALL = BASE | {
    "embed_dim": (8, 16, 24, 32),
    "depths": (1, 1, 2, 1),
    "heads": (1, 2, 2, 4),
    "width": 32,
    "layers": 1,
    "text_heads": 2,
    "ffn": 64,
    "text_tokens": 400,
}


def text_tokenizer(text_tokens: int) -> Tokenizer:
    """BART's kind of tokenizer: byte-level BPE with its special tokens at their ids, no task tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(text_tokens, 600) - 1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    state = json.loads(tokenizer.to_str())
    learned = len(state["model"]["vocab"])
    state["model"]["vocab"] |= {f"unused {index}": index for index in range(learned, text_tokens - 1)}
    whole = Tokenizer.from_str(json.dumps(state))
    whole.add_special_tokens(["<mask>"])
    return whole


def random_florence2(shape: dict[str, Any], rows: int) -> Florence2ForConditionalGeneration:
    """transformers' own model of this shape with `rows` embeddings; torch's generator decides the weights."""
    vision = Florence2VisionConfig(
        embed_dim=shape["embed_dim"],
        depths=shape["depths"],
        num_heads=shape["heads"],
        num_groups=shape["heads"],
        projection_dim=shape["width"],
    )
    text = BartConfig(
        vocab_size=rows,
        d_model=shape["width"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        encoder_attention_heads=shape["text_heads"],
        decoder_attention_heads=shape["text_heads"],
        encoder_ffn_dim=shape["ffn"],
        decoder_ffn_dim=shape["ffn"],
        max_position_embeddings=shape["positions"],
        no_repeat_ngram_size=3,
        forced_eos_token_id=2,
    )
    with no_init_weights(), torch.no_grad():
        model = Florence2ForConditionalGeneration(Florence2Config(vision_config=vision, text_config=text)).eval()
        model.tie_weights()
        for parameter in model.parameters():  # norms and biases differ too, or any two of them could be exchanged
            parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.mul_(0.02).add_(1)
    return model


def write_native(folder: Path, shape: dict[str, Any], seed: int = 0) -> Path:
    """transformers' layout: all tokens in tokenizer.json, embeddings padded to a multiple of 64 rows."""
    torch.manual_seed(seed)
    tokenizer = text_tokenizer(shape["text_tokens"])
    tokenizer.add_special_tokens([*TASK_TOKENS, "<image>"])
    model = random_florence2(shape, -(-tokenizer.get_vocab_size() // 64) * 64).half()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_older(folder: Path, native: Path, shape: dict[str, Any]) -> Path:
    """microsoft's layout of the same weights: BART's tokenizer alone, embeddings without padding."""
    folder.mkdir(parents=True)
    model = Florence2ForConditionalGeneration.from_pretrained(native, dtype=torch.float16)
    rows = shape["text_tokens"] + len(TASK_TOKENS)
    weights: dict[str, Tensor] = {"language_model.final_logits_bias": torch.zeros(1, rows, dtype=torch.float16)}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" or name.endswith("embed_tokens.weight"):
            continue
        values = tensor[:rows] if name.endswith("shared.weight") else tensor
        older = older_name(name)
        weights[older] = (values.T if older == "image_projection" else values).contiguous()
    save_file(weights, folder / "model.safetensors")
    vision = {
        "model_type": "",
        "depths": shape["depths"],
        "dim_embed": shape["embed_dim"],
        "num_heads": shape["heads"],
        "num_groups": shape["heads"],
        "patch_size": [7, 3, 3, 3],
        "patch_stride": [4, 2, 2, 2],
        "patch_padding": [3, 1, 1, 1],
        "patch_prenorm": [False, True, True, True],
        "window_size": 12,
        "drop_path_rate": 0.1,
        "projection_dim": shape["width"],
        "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": 50},
        "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": 100},
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
        "enable_checkpoint": False,
    }
    text = model.config.text_config.to_dict() | {"model_type": "florence2_language", "vocab_size": rows}
    config = {"model_type": "florence2", "vision_config": vision, "text_config": text, "torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    text_tokenizer(shape["text_tokens"]).save(str(folder / "tokenizer.json"))
    return folder


def older_name(name: str) -> str:
    """transformers' name of a weight in microsoft's layout, written down independently of published.py."""
    part = name.removeprefix("model.")
    if part.startswith("language_model."):
        return part.replace("language_model.", "language_model.model.", 1)
    if part.startswith("multi_modal_projector."):
        projector = part.removeprefix("multi_modal_projector.")
        if projector == "image_projection.weight":
            return "image_projection"
        return projector.replace("image_position_embed.", "image_pos_embed.")
    tower, kind, stage, *rest = part.split(".")
    if kind == "convs":
        return ".".join([tower, kind, stage, "proj" if rest[0] == "conv" else rest[0], rest[1]])
    index, block, module, *tail = rest
    attention = "window_attn" if block == "spatial_block" else "channel_attn"
    inner = {
        "conv1": ["conv1", "fn", "dw"],
        "conv2": ["conv2", "fn", "dw"],
        "norm1": [attention, "norm"],
        "norm2": ["ffn", "norm"],
        "ffn": ["ffn", "fn", "net"],
        attention: [attention, "fn"],
    }[module]
    return ".".join([tower, kind, stage, index, block, *inner, *tail])
