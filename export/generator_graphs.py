"""The generative reading as PyTorch modules that become ONNX graphs: see once, read each prompt, decode step by step.

All read the checkpoint's own layers; the attention of the decoder is written out here, because its caches have a
fixed capacity: `transformers` would let them grow by a column a step. Which tensors pass between them stands in
export/contract/tensors.py.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.bart.modeling_bart import BartAttention

from export.checkpoint import Checkpoint, CheckpointError
from export.contract.locations import NUM_BINS, SCORE_WINDOW
from export.contract.tensors import GENERATED_TOKENS
from export.runtime.grammar import Vocabulary

HIDDEN = -3e4  # added to a logit that must not count: exp() of it is 0, and half precision holds it
LEAST_PROBABILITY = 1e-9  # a logarithm must stay finite


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokens that an answer can hold, and <s>, which every answer follows.

    Raises:
        CheckpointError: the tokenizer lacks one of the special tokens.
    """
    names = ("<s>", "<pad>", "</s>", "<unk>", "<image>")
    special = {name: int(token) for name in names if (token := checkpoint.tokenizer.token_to_id(name)) is not None}
    missing = [name for name in names if name not in special]
    if missing:
        raise CheckpointError(f"{checkpoint.folder / 'tokenizer.json'} lacks {', '.join(missing)}; train again")
    config: Any = checkpoint.network.config
    token_ids = np.setdiff1d(np.arange(config.text_config.vocab_size), [special["<unk>"], special["<image>"]])

    def index(token: int) -> int:
        return int(np.searchsorted(token_ids, token))

    return Vocabulary(
        token_ids=token_ids,
        bos=index(special["<s>"]),
        pad=index(special["<pad>"]),
        eos=index(special["</s>"]),
        start=index(config.text_config.decoder_start_token_id),
        first_location=index(config.location_token_id),
    )


class GeneratorVision(nn.Module):
    """IMAGE -> IMAGE_FEATURES: most of the work, and the same for all prompts about an image."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network: Any = checkpoint.network  # of the class that travels with the checkpoint

    def forward(self, image: Tensor) -> Tensor:
        """Tiles (B, S, S, 3) -> projected image tokens (B, 1 + N, D), the spatial mean first."""
        network = self.network
        features: Tensor = network.image_features(network.normalise(image))
        return features


class GeneratorEncoder(nn.Module):
    """IMAGE_FEATURES, INPUT_IDS, ATTENTION_MASK -> ENCODER_BIAS, each decoder layer's CROSS_KEYS and CROSS_VALUES."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network: Any = checkpoint.network

    def forward(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Image tokens first, then the prompt's, through BART's encoder; see the contract for the shapes."""
        language_model = self.network.model.language_model
        embeds = torch.cat([features, self.network.get_input_embeddings()(input_ids)], dim=1)
        mask = torch.cat([attention_mask.new_ones(features.shape[:2]), attention_mask], dim=1)
        # The image is a whole tile: its tokens stand at the positions that they learned, nothing is to be placed.
        states = language_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        outputs = [(1 - mask.to(states.dtype)) * HIDDEN]
        for layer in language_model.decoder.layers:
            attention = layer.encoder_attn
            shape = (attention.num_heads, attention.head_dim)
            outputs.append(attention.k_proj(states).unflatten(-1, shape).permute(0, 2, 3, 1))
            outputs.append(attention.v_proj(states).unflatten(-1, shape).transpose(1, 2))
        return tuple(outputs)


class GeneratorDecoder(nn.Module):
    """TOKEN, POSITION, ALLOWED, what the encoder gave, the caches -> NEXT, LOG_PROB, this place's columns."""

    table: Tensor
    positions: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        vocabulary = read_vocabulary(checkpoint)
        network: Any = checkpoint.network
        decoder = network.model.language_model.decoder
        places = decoder.embed_positions.num_embeddings - decoder.embed_positions.offset
        if places <= GENERATED_TOKENS:
            raise CheckpointError(
                f"{checkpoint.folder}: max_position_embeddings is {places}, expected at least {GENERATED_TOKENS + 1}: "
                f"an answer has up to {GENERATED_TOKENS} tokens; train with more"
            )
        self.layers = decoder.layers
        self.embedding_norm = decoder.layernorm_embedding
        self.embed_scale = decoder.embed_tokens.embed_scale
        self.first_location = vocabulary.first_location
        # Tied in Florence-2: the same table tells what a token means and how well a state fits it.
        self.register_buffer("table", network.lm_head.weight[torch.from_numpy(vocabulary.token_ids)].detach())
        self.register_buffer(
            "positions",
            decoder.embed_positions.weight[decoder.embed_positions.offset :][: GENERATED_TOKENS + 1].detach(),
        )

    def forward(
        self, token: Tensor, position: Tensor, allowed: Tensor, encoder_bias: Tensor, *states: Tensor
    ) -> tuple[Tensor, ...]:
        """One step; `states` are the keys and values of all layers, first the encoder's, then the caches."""
        passed, caches = states[: len(states) // 2], states[len(states) // 2 :]
        filled = torch.arange(GENERATED_TOKENS, device=position.device) < position  # (B, T)
        cache_bias = (~filled).to(encoder_bias.dtype) * HIDDEN
        hidden = F.embedding(token, self.table) * self.embed_scale + F.embedding(position, self.positions)
        hidden = self.embedding_norm(hidden)  # (B, 1, D)
        columns: list[Tensor] = []
        for layer, cross_keys, cross_values, self_keys, self_values in zip(
            self.layers, passed[::2], passed[1::2], caches[::2], caches[1::2], strict=True
        ):
            attended, key, value = _attend_cache(layer.self_attn, hidden, self_keys, self_values, cache_bias)
            hidden = layer.self_attn_layer_norm(hidden + attended)
            attended = _attend_encoder(layer.encoder_attn, hidden, cross_keys, cross_values, encoder_bias)
            hidden = layer.encoder_attn_layer_norm(hidden + attended)
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
            columns += [key, value]
        logits = F.linear(hidden[:, 0], self.table).float()  # (B, V)
        best, log_prob = self._choose(logits.masked_fill(allowed == 0, HIDDEN))
        return best, log_prob, *columns

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The best token (B, 1), and the logarithm of its probability, for a location that of its neighbourhood.

        The softmax is written out: OpenVINO's ReduceLogSumExp is wrong for more than one item.
        """
        best = logits.argmax(-1, keepdim=True)
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        indices = torch.arange(logits.shape[1], device=logits.device)
        is_location = (indices >= self.first_location) & (indices < self.first_location + NUM_BINS)
        near = ((indices - best).abs() <= SCORE_WINDOW) & is_location
        located = (best >= self.first_location) & (best < self.first_location + NUM_BINS)
        counted = (near & located) | (indices == best)
        probability = (weights * counted).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return best, probability.clamp(min=LEAST_PROBABILITY).log()


def _heads(attention: BartAttention, states: Tensor) -> Tensor:
    """(B, 1, D) -> (B, H, 1, W)."""
    heads: Tensor = states.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
    return heads


def _project(attention: BartAttention, attended: Tensor) -> Tensor:
    """(B, H, 1, W) -> (B, 1, D)."""
    projected: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return projected


def _attend_encoder(attention: BartAttention, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Keys (B, H, W, S), values (B, H, S, W) and bias (B, S) of the encoder -> (B, 1, D)."""
    query = _heads(attention, attention.q_proj(hidden) * attention.scaling)
    weights = (query @ keys + bias[:, None, None]).float().softmax(-1)
    return _project(attention, weights.to(values.dtype) @ values)


def _attend_cache(
    attention: BartAttention, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cached keys (B, H, W, T), values (B, H, T, W), their bias (B, T) -> (B, 1, D) and this place's own columns.

    The place attends to the cache and to itself without the two being joined: that would copy the cache.
    """
    query = _heads(attention, attention.q_proj(hidden) * attention.scaling)
    key = _heads(attention, attention.k_proj(hidden)).transpose(2, 3)
    value = _heads(attention, attention.v_proj(hidden))
    scores = torch.cat([query @ keys + bias[:, None, None], query @ key], dim=-1)
    weights = scores.float().softmax(-1).to(values.dtype)
    attended = weights[..., :-1] @ values + weights[..., -1:] * value
    return _project(attention, attended), key, value
