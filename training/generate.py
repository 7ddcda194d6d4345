"""The generative reading: greedy decoding under a grammar, and boxes with scores from its tokens.

The grammar, as Florence-2 writes detections: `<s> (label <loc_x1><loc_y1><loc_x2><loc_y2>)* </s>`, a label
being one or more text tokens. Probabilities are taken over the tokens that it allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.locations import dequantise
from training.modeling_florence2_grounding import Florence2ForGrounding
from training.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, encode_batch, token_id

SCORE_WINDOW = 6  # bins each side: soft targets spread a location's probability over its neighbours
MAX_TOKENS = 160  # of one answer


@dataclass(frozen=True)
class Answer:
    """What one image and prompt were answered: labels (N), boxes_xyxy (N, 4) as fractions, scores (N,)."""

    labels: list[str]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]


class Grammar:
    """Which tokens may follow, for a batch of answers under way."""

    def __init__(self, network: Florence2ForGrounding, tokenizer: Tokenizer, batch: int) -> None:
        vocabulary = network.config.text_config.vocab_size
        first = network.config.location_token_id
        self.bos, self.eos, self.pad = (token_id(tokenizer, token) for token in (BOS, EOS, PAD))
        self.is_location = torch.zeros(vocabulary, dtype=torch.bool)
        self.is_location[first : first + network.grounding.num_bins] = True
        self.is_text = ~self.is_location
        self.is_text[[token_id(tokenizer, token) for token in SPECIAL_TOKENS]] = False
        self.labelled = torch.zeros(batch, dtype=torch.bool)  # the label under way has a token
        self.locations = torch.zeros(batch, dtype=torch.int64)  # of the box under way
        self.done = torch.zeros(batch, dtype=torch.bool)

    def allowed(self) -> Tensor:
        """(B, V) True where a token may come next."""
        in_box = self.locations > 0
        mask = self.is_text & ~in_box[:, None]
        mask |= self.is_location & (in_box | self.labelled)[:, None]
        mask[:, self.eos] = ~in_box & ~self.labelled
        mask[self.done] = False
        mask[self.done, self.pad] = True
        return mask

    def advance(self, tokens: Tensor) -> None:
        """Takes note of the tokens (B,) that were chosen."""
        located = self.is_location[tokens]
        self.labelled = (self.labelled | self.is_text[tokens]) & ~located
        self.locations = (self.locations + located) % 4
        self.done |= tokens == self.eos


@torch.inference_mode()
def generate(
    network: Florence2ForGrounding, tokenizer: Tokenizer, features: Tensor, prompts: Sequence[str]
) -> list[Answer]:
    """Answers each prompt about the image features (B, 1 + N, D) in the same place of the batch."""
    language_model = network.model.language_model
    input_ids, attention_mask = encode_batch(tokenizer, prompts)
    mask = torch.cat([attention_mask.new_ones(features.shape[:2]), attention_mask], dim=1)
    embeds = torch.cat([features, network.get_input_embeddings()(input_ids)], dim=1)
    states = language_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    grammar = Grammar(network, tokenizer, len(prompts))
    tokens = torch.tensor([grammar.eos, grammar.bos]).repeat(len(prompts), 1)  # decoder start, forced BOS
    cache = None
    chosen: list[Tensor] = []
    confidence: list[Tensor] = []
    while len(chosen) < MAX_TOKENS and not grammar.done.all():
        output = language_model.decoder(
            input_ids=tokens,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        logits = network.lm_head(output.last_hidden_state[:, -1]).masked_fill(~grammar.allowed(), float("-inf"))
        probabilities = logits.softmax(-1)
        best = probabilities.argmax(-1)
        grammar.advance(best)
        chosen.append(best)
        confidence.append(_window_mass(probabilities, best, grammar.is_location))
        tokens = best[:, None]
    if not chosen:
        return []
    return [
        _parse(ids, mass, grammar, tokenizer, network.config.location_token_id)
        for ids, mass in zip(torch.stack(chosen, 1), torch.stack(confidence, 1), strict=True)
    ]


def _window_mass(probabilities: Tensor, best: Tensor, is_location: Tensor) -> Tensor:
    """(B,) probability of the chosen token, for a location that of its neighbourhood."""
    offsets = torch.arange(-SCORE_WINDOW, SCORE_WINDOW + 1)
    around = best[:, None] + offsets
    inside = around < probabilities.shape[1]  # <loc_999> may be the last token
    around = around.clamp(0, probabilities.shape[1] - 1)
    near = probabilities.gather(1, around) * (is_location[around] & inside)
    exact = probabilities.gather(1, best[:, None])[:, 0]
    return torch.where(is_location[best], near.sum(1), exact)


def _parse(ids: Tensor, mass: Tensor, grammar: Grammar, tokenizer: Tokenizer, first_location: int) -> Answer:
    labels: list[str] = []
    bins: list[list[int]] = []
    scores: list[float] = []
    text: list[int] = []
    box: list[int] = []
    logs: list[float] = []
    label_log = 0.0
    for token, probability in zip(ids.tolist(), mass.clamp(min=1e-9).log().tolist(), strict=True):
        if token in (grammar.eos, grammar.pad):
            break
        if not grammar.is_location[token]:
            text.append(token)
            label_log += probability
            continue
        box.append(token - first_location)
        logs.append(probability)
        if len(box) == 4:
            labels.append(tokenizer.decode(text).strip())
            bins.append(box)
            scores.append(float(np.exp(np.mean(logs) + label_log)))
            text, box, logs, label_log = [], [], [], 0.0
    boxes = dequantise(np.array(bins, dtype=np.int64).reshape(-1, 4), (1, 1))
    return Answer(labels, boxes, np.array(scores, dtype=np.float32))
