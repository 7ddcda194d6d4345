"""The generative reading as PyTorch modules that become ONNX graphs: see once, read each prompt, decode in steps.

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

from export.contract.defects import DEFECTS
from export.contract.locations import NUM_BINS, SCORE_WINDOW
from export.contract.tensors import GENERATED_TOKENS, STEP_TOKENS
from export.graphs.checkpoint import Checkpoint, CheckpointError
from export.runtime.grammar import Vocabulary

HIDDEN = -3e4  # added to a logit that must not count: exp() of it is 0, and half precision holds it
LEAST_PROBABILITY = 1e-9  # a logarithm must stay finite


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokens that an answer can hold, and <s>, which every answer follows; the labels that training wrote.

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

    def label(name: str) -> tuple[int, ...]:
        return tuple(map(index, checkpoint.tokenizer.encode(name, add_special_tokens=False).ids))

    labels = [
        label(names[0])
        for defect in DEFECTS
        if defect.id in checkpoint.defects
        for names in (defect.names_en, defect.names_zh)
    ]
    return Vocabulary(
        token_ids=token_ids,
        bos=index(special["<s>"]),
        pad=index(special["<pad>"]),
        eos=index(special["</s>"]),
        start=index(config.text_config.decoder_start_token_id),
        first_location=index(config.location_token_id),
        slots=0 if (slots := box_slots(checkpoint)) is None else len(slots),
        labels=tuple(dict.fromkeys(labels)),
    )


def box_slots(checkpoint: Checkpoint) -> Tensor | None:
    """The inputs (2, D) that stand for a box's y1 and x2 before these are read, where the checkpoint has learned any.

    The code of older checkpoints knows of none.
    """
    slots: nn.Parameter | None = getattr(checkpoint.network, "box_slots", None)
    return None if slots is None else slots.detach()


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
    """TOKENS, POSITION, ALLOWED, what the encoder gave, the caches -> NEXT, LOG_PROB, these places' columns."""

    table: Tensor
    positions: Tensor
    slots: Tensor | None

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
        self.first_location, self.eos = vocabulary.first_location, vocabulary.eos
        # Tied in Florence-2: the same table tells what a token means and how well a state fits it.
        self.register_buffer("table", network.lm_head.weight[torch.from_numpy(vocabulary.token_ids)].detach())
        learned = decoder.embed_positions.weight[decoder.embed_positions.offset :][: GENERATED_TOKENS + 1].detach()
        # A step may reach over the end of the longest answer; what comes out there is not read.
        self.register_buffer("positions", F.pad(learned, (0, 0, 0, STEP_TOKENS - 1)))
        self.register_buffer("slots", box_slots(checkpoint))

    def forward(
        self, tokens: Tensor, position: Tensor, allowed: Tensor, encoder_bias: Tensor, *states: Tensor
    ) -> tuple[Tensor, ...]:
        """One step; `states` are the keys and values of all layers, first the encoder's, then the caches."""
        passed, caches = states[: len(states) // 2], states[len(states) // 2 :]
        filled = torch.arange(GENERATED_TOKENS, device=position.device) < position  # (B, C)
        cache_bias = (~filled).to(encoder_bias.dtype) * HIDDEN
        places = torch.arange(tokens.shape[1], device=position.device)
        causal_bias = (places > places[:, None]).to(encoder_bias.dtype) * HIDDEN  # (T, T)
        hidden = self._embed(tokens) + F.embedding(position + places, self.positions)
        hidden = self.embedding_norm(hidden)  # (B, T, D)
        columns: list[Tensor] = []
        for layer, cross_keys, cross_values, self_keys, self_values in zip(
            self.layers, passed[::2], passed[1::2], caches[::2], caches[1::2], strict=True
        ):
            biases = (cache_bias, causal_bias)
            attended, key, value = _attend_cache(layer.self_attn, hidden, self_keys, self_values, *biases)
            hidden = layer.self_attn_layer_norm(hidden + attended)
            attended = _attend_encoder(layer.encoder_attn, hidden, cross_keys, cross_values, encoder_bias)
            hidden = layer.encoder_attn_layer_norm(hidden + attended)
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
            columns += [key, value]
        logits = F.linear(hidden, self.table).float()  # (B, T, V)
        best, log_prob = self._choose(logits.masked_fill(allowed == 0, HIDDEN))
        return best, log_prob, *columns

    def _embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) -> (B, T, D); indices behind the vocabulary's are of the slots."""
        if self.slots is None:
            scaled: Tensor = F.embedding(tokens, self.table) * self.embed_scale
            return scaled
        is_slot = tokens >= len(self.table)
        known = F.embedding(tokens.masked_fill(is_slot, 0), self.table) * self.embed_scale
        slot = F.embedding((tokens - len(self.table)).masked_fill(~is_slot, 0), self.slots)
        return torch.where(is_slot[..., None], slot, known)

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The best tokens (B, T), and the logarithms of their probabilities, for a location that of its neighbourhood.

        The softmax is written out: OpenVINO's ReduceLogSumExp is wrong for more than one item. An outline ends where
        that is likelier than all locations together: each of them has but a small part of theirs.
        """
        indices = torch.arange(logits.shape[-1], device=logits.device)
        is_location = (indices >= self.first_location) & (indices < self.first_location + NUM_BINS)
        is_end = indices == self.eos
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        goes_on = (weights * is_end).sum(-1, keepdim=True) < (weights * is_location).sum(-1, keepdim=True)
        logits = logits.masked_fill(is_end & goes_on, HIDDEN)
        best = logits.argmax(-1, keepdim=True)
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        near = ((indices - best).abs() <= SCORE_WINDOW) & is_location
        located = (best >= self.first_location) & (best < self.first_location + NUM_BINS)
        counted = (near & located) | (indices == best)
        probability = (weights * counted).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return best.squeeze(-1), probability.clamp(min=LEAST_PROBABILITY).log().squeeze(-1)


def _heads(attention: BartAttention, states: Tensor) -> Tensor:
    """(B, T, D) -> (B, H, T, W)."""
    heads: Tensor = states.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
    return heads


def _project(attention: BartAttention, attended: Tensor) -> Tensor:
    """(B, H, T, W) -> (B, T, D)."""
    projected: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return projected


def _attend_encoder(attention: BartAttention, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Keys (B, H, W, S), values (B, H, S, W) and bias (B, S) of the encoder -> (B, T, D)."""
    query = _heads(attention, attention.q_proj(hidden) * attention.scaling)
    weights = (query @ keys + bias[:, None, None]).float().softmax(-1)
    return _project(attention, weights.to(values.dtype) @ values)


def _attend_cache(
    attention: BartAttention, hidden: Tensor, keys: Tensor, values: Tensor, cache_bias: Tensor, causal_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cached keys (B, H, W, C), values (B, H, C, W), their bias (B, C) -> (B, T, D) and these places' own columns.

    The places attend to the cache and, as `causal_bias` (T, T) lets them, to each other without the two being joined:
    that would copy the cache.
    """
    query = _heads(attention, attention.q_proj(hidden) * attention.scaling)
    key = _heads(attention, attention.k_proj(hidden)).transpose(2, 3)
    value = _heads(attention, attention.v_proj(hidden))
    scores = torch.cat([query @ keys + cache_bias[:, None, None], query @ key + causal_bias], dim=-1)
    weights = scores.float().softmax(-1).to(values.dtype)
    attended = weights[..., :GENERATED_TOKENS] @ values + weights[..., GENERATED_TOKENS:] @ value
    return _project(attention, attended), key, value
