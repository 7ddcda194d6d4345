"""The generative reading: greedy decoding under a grammar, and boxes with scores from its tokens.

The grammar, as Florence-2 writes detections: `<s> (label <loc_x1><loc_y1><loc_x2><loc_y2>)* </s>`, a label
being one or more text tokens. A prompt that holds a region is answered by the outline of what is in it:
`<s> region (<loc_x><loc_y>){3,16} </s>`. Probabilities are taken over the tokens that the grammar allows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.locations import (
    DRAFT_TOLERANCE,
    FEWEST_POINTS,
    MOST_POINTS,
    NUM_BINS,
    SCORE_WINDOW,
    dequantise,
    dequantise_outline,
    quantise,
)
from training.data.outline import Polygon
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.regions import REGION, locations, regions_of
from training.network.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, token_id
from training.reading.decoding import Decoding

MAX_TOKENS = 160  # of one answer
LEAST_PROBABILITY = 1e-9  # a logarithm must stay finite


@dataclass(frozen=True)
class Answer:
    """What one image and prompt were answered: labels (N), boxes_xyxy (N, 4) as fractions, scores (N,)."""

    labels: list[str]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]


class Grammar:
    """Which tokens may follow, for a batch of answers under way."""

    def __init__(self, network: Florence2ForGrounding, tokenizer: Tokenizer, outlined: Tensor) -> None:
        """`outlined` (B,) says which answers are outlines."""
        batch, device = len(outlined), network.device
        vocabulary = network.config.text_config.vocab_size
        first = network.config.location_token_id
        self.bos, self.eos, self.pad = (token_id(tokenizer, token) for token in (BOS, EOS, PAD))
        self.is_location = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.is_location[first : first + network.grounding.num_bins] = True
        self.is_text = ~self.is_location
        self.is_text[[token_id(tokenizer, token) for token in SPECIAL_TOKENS]] = False
        self.labelled = torch.zeros(batch, dtype=torch.bool, device=device)  # the label under way has a token
        self.locations = torch.zeros(batch, dtype=torch.int64, device=device)  # of the box under way, or of the outline
        self.outlined = outlined
        self.done = torch.zeros(batch, dtype=torch.bool, device=device)

    def allowed(self) -> Tensor:
        """(B, V) True where a token may come next."""
        in_box = self.locations > 0
        mask = self.is_text & ~in_box[:, None]
        mask |= self.is_location & (in_box | self.labelled)[:, None]
        mask[:, self.eos] = ~in_box & ~self.labelled
        points, whole = self.locations // 2, self.locations % 2 == 0
        mask = torch.where(self.outlined[:, None], self.is_location & (points < MOST_POINTS)[:, None], mask)
        mask[:, self.eos] |= self.outlined & whole & (points >= FEWEST_POINTS)
        mask[self.done] = False
        mask[self.done, self.pad] = True
        return mask

    def advance(self, tokens: Tensor) -> None:
        """Takes note of the tokens (B,) that were chosen."""
        located = self.is_location[tokens]
        self.labelled = (self.labelled | self.is_text[tokens]) & ~located
        locations = self.locations + located
        self.locations = torch.where(self.outlined, locations, locations % 4)
        self.done = self.done | (tokens == self.eos)


@torch.inference_mode()
def generate(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    features: Tensor,
    prompts: Sequence[str],
    *,
    parallel: bool = True,
) -> list[Answer]:
    """Answers each prompt about the image features (B, 1 + N, D) in the same place of the batch.

    One token a step; but a network with slots reads a box's locations at once, unless `parallel` is false. Behind x1
    the slots draft x2 and y2; one step later, when y1 is known, these are read as always, the draft standing in place
    of x2. A draft more than DRAFT_TOLERANCE bins from what is read counts for nothing, nor does what was read behind
    it. So an answer can differ from that of one token a step only by what so small a change of an input does.

    Raises:
        DatasetError: names the prompts that are too long.
    """
    if not prompts:
        return []
    answers = _decode(network, tokenizer, features, prompts, parallel)
    return [_parse(answer, network, tokenizer) for answer in answers]


@torch.inference_mode()
def generate_outlines(
    network: Florence2ForGrounding, tokenizer: Tokenizer, features: Tensor, regions_xyxy: NDArray[np.float32]
) -> list[Polygon]:
    """The outline (M, 2) of what is in each region (B, 4), both in fractions of the tile, one token a step.

    The image features (B, 1 + N, D) stand in the same place of the batch.
    """
    if not len(regions_xyxy):
        return []
    regions = quantise(regions_xyxy, (1, 1))
    prompts = [locations(region) for region in regions]
    first = network.config.location_token_id
    written = [[token - first for token, _ in answer] for answer in _decode(network, tokenizer, features, prompts)]
    # What is cut off is no pair; </s> is no location.
    bins = [[bin_ for bin_ in own if 0 <= bin_ < NUM_BINS] for own in written]
    return [dequantise_outline(np.array(own).reshape(-1, 2), region) for own, region in zip(bins, regions, strict=True)]


def _decode(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    features: Tensor,
    prompts: Sequence[str],
    parallel: bool = True,
) -> list[list[tuple[int, float]]]:
    """The tokens of each answer and their probabilities, </s> included where it is reached."""
    device = network.device
    decoding = Decoding(network, tokenizer, features, prompts)
    first, last = network.config.location_token_id, network.config.location_token_id + network.grounding.num_bins
    outlined, regions = regions_of(decoding.input_ids, first)
    grammar = Grammar(network, tokenizer, outlined)
    embed = network.model.language_model.decoder.embed_tokens
    slots = network.box_slots if parallel else None
    answers: list[list[tuple[int, float]]] = [[] for _ in prompts]

    def take(logits: Tensor, rows: Tensor) -> Tensor:
        """The best token of logits (B, vocabulary) where `rows` (B,) is true and the answer goes on, else <pad>."""
        probabilities = logits.masked_fill(~grammar.allowed(), float("-inf")).softmax(-1)
        # An outline ends where that is likelier than all places together: each of them has but a small part of theirs.
        goes_on = probabilities[:, grammar.eos] < probabilities[:, first:last].sum(-1)
        probabilities[:, grammar.eos] *= ~goes_on
        best = probabilities.argmax(-1)
        mass = _window_mass(probabilities, best, grammar.is_location)
        taken = best.masked_fill(~rows, grammar.pad)
        grammar.advance(taken)  # <pad> changes nothing
        for answer, token, probability in zip(answers, taken.tolist(), mass.tolist(), strict=True):
            if token != grammar.pad:
                answer.append((token, probability))
        return taken

    everywhere = torch.ones(len(prompts), dtype=torch.bool, device=device)
    nowhere = ~everywhere
    # Given are the decoder's start, <s> and, where an outline is to follow, the region; the last of these is fed below.
    given = torch.full((len(prompts), 2 + REGION), grammar.pad, device=device)
    given[:, :2] = torch.tensor([grammar.eos, grammar.bos], device=device)
    given[outlined, 2:] = regions
    ends = torch.where(outlined, 1 + REGION, 1)
    tokens = given[torch.arange(len(prompts), device=device), ends]
    decoding.step(embed(given[:, : int(ends.max())]))
    decoding.keep(ends)
    drafts = torch.full((len(prompts), 2), first, device=device)
    drafted = nowhere  # where `drafts` stand for the x2 and y2 behind `tokens`
    while not grammar.done.all():
        begun = (grammar.locations == 1) & ~outlined if slots is not None else nowhere  # `tokens` is an x1
        embeds = embed(tokens[:, None])
        if slots is not None and (begun | drafted).any():
            embeds = torch.cat([embeds, torch.where(begun[:, None, None], slots, embed(drafts))], dim=1)
        logits = decoding.step(embeds)
        tokens = take(logits[:, 0], everywhere)
        kept = torch.ones_like(tokens)
        near = drafted
        for place in range(1, logits.shape[1]):
            near = near & ((tokens - drafts[:, place - 1]).abs() <= DRAFT_TOLERANCE)
            kept += near
            tokens = torch.where(near, take(logits[:, place], near), tokens)
        decoding.keep(kept)
        if logits.shape[1] > 1:
            drafts = logits[:, 1:, first:last].argmax(-1) + first
        drafted = begun
        grammar.done |= torch.tensor([len(answer) >= MAX_TOKENS for answer in answers], device=device)
    return [answer[:MAX_TOKENS] for answer in answers]


def _window_mass(probabilities: Tensor, best: Tensor, is_location: Tensor) -> Tensor:
    """(B,) probability of the chosen token, for a location that of its neighbourhood."""
    offsets = torch.arange(-SCORE_WINDOW, SCORE_WINDOW + 1, device=best.device)
    around = best[:, None] + offsets
    inside = around < probabilities.shape[1]  # <loc_999> may be the last token
    around = around.clamp(0, probabilities.shape[1] - 1)
    near = probabilities.gather(1, around) * (is_location[around] & inside)
    exact = probabilities.gather(1, best[:, None])[:, 0]
    return torch.where(is_location[best], near.sum(1), exact)


def _parse(answer: Sequence[tuple[int, float]], network: Florence2ForGrounding, tokenizer: Tokenizer) -> Answer:
    """Labels, boxes and scores from an answer's tokens and their probabilities."""
    first, eos = network.config.location_token_id, token_id(tokenizer, EOS)
    labels: list[str] = []
    bins: list[list[int]] = []
    scores: list[float] = []
    text: list[int] = []
    box: list[int] = []
    logs: list[float] = []
    label_log = 0.0
    for token, mass in answer:
        if token == eos:
            break
        probability = math.log(max(mass, LEAST_PROBABILITY))
        if not first <= token < first + NUM_BINS:
            text.append(token)
            label_log += probability
            continue
        box.append(token - first)
        logs.append(probability)
        if len(box) == 4:
            labels.append(tokenizer.decode(text).strip())
            bins.append(box)
            scores.append(float(np.exp(np.mean(logs) + label_log)))
            text, box, logs, label_log = [], [], [], 0.0
    boxes = dequantise(np.array(bins, dtype=np.int64).reshape(-1, 4), (1, 1))
    return Answer(labels, boxes, np.array(scores, dtype=np.float32))
