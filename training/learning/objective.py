"""The training objective of one batch: 0.8 matching + 0.2 boxes, and the language loss of the generative reading."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from export.contract.tensors import LENGTH_BUCKETS
from training.learning.losses import focal_loss, giou_loss, location_loss, location_targets
from training.learning.targets import (
    IGNORED,
    GenerativeBatch,
    GroundingPrompts,
    Positives,
    decoder_inputs,
)
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.regions import REGION, regions_of
from training.network.tokenizer import encode_batch

MATCH_WEIGHT = 0.8
BOX_WEIGHT = 0.2
LANGUAGE_WEIGHT = 0.3  # the shared encoder serves the grounding reading first


@dataclass(frozen=True)
class Terms:
    """The parts of the loss, each a scalar."""

    match: Tensor
    giou: Tensor
    location: Tensor
    language: Tensor

    def total(self) -> Tensor:
        """What is minimised."""
        return MATCH_WEIGHT * self.match + BOX_WEIGHT * (self.giou + self.location) + LANGUAGE_WEIGHT * self.language


def grounding_terms(
    network: Florence2ForGrounding,
    states: Tensor,
    prompts: GroundingPrompts,
    embeddings: Tensor,
    found: Positives,
    sparse: Sequence[Sequence[str]],
    sigma: float,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Matching, GIoU and location losses of tokens (B, N, D), each per positive token as `found` weighs them.

    `sparse` has the sentences that hold somewhere in each of the B images: see `answer_somewhere`. A token that
    shows a defect counts `class_weights[class_id]` times that in the matching loss, against every prompt.
    """
    logits = network.grounding.match(states, embeddings).float()
    targets, weights, shares = torch.zeros_like(logits), torch.ones_like(logits), torch.ones_like(logits[..., :1])
    asked, counts = (table.to(logits.device) for table in prompts.relevance(found))  # (M, P) each
    targets[found.image_ids, found.token_ids] = asked
    weights[found.image_ids, found.token_ids] = (
        counts if class_weights is None else counts * class_weights[found.class_ids, None]
    )
    shares[found.image_ids, found.token_ids, 0] = found.weights
    answer_somewhere(logits, targets, weights, prompts, sparse)
    positives = targets * shares * (weights > 0)  # those of a picture with sparse labels count for nothing
    match = focal_loss(logits, targets, weights * shares) / positives.sum().clamp(min=1)
    if not len(found.token_ids):
        return match, logits.new_zeros(()), logits.new_zeros(())
    centres = network.centres(states.shape[1])[found.token_ids]
    edges = network.grounding.edges(states[found.image_ids, found.token_ids], network.location_embeddings).float()
    half = network.grounding.num_bins / 2
    bins = (found.boxes_xyxy - torch.cat([centres, centres], -1)) * half + half
    boxes = network.grounding.read_boxes(edges, centres)
    share = found.weights / found.weights.sum()
    giou = giou_loss(boxes, found.boxes_xyxy) @ share
    return match, giou, location_loss(edges, bins, sigma).mean(1) @ share


def answer_somewhere(
    logits: Tensor, targets: Tensor, weights: Tensor, prompts: GroundingPrompts, sparse: Sequence[Sequence[str]]
) -> None:
    """Sparse labels as multiple-instance learning: of an image's tokens the best answers its sentence.

    Nothing else is known of such an image, since its boxes are not complete. (Maron and Lozano-Perez, A framework
    for multiple-instance learning, 1997.)
    """
    for image_id, sentences in enumerate(sparse):
        if not sentences:
            continue
        weights[image_id] = 0
        for prompt_id, asked in enumerate(prompts.asked):
            if asked in sentences:
                best = int(logits[image_id, :, prompt_id].argmax())
                targets[image_id, best, prompt_id] = 1
                weights[image_id, best, prompt_id] = 1


def language_term(
    network: Florence2ForGrounding, features: Tensor, batch: GenerativeBatch, tokenizer: Tokenizer, sigma: float
) -> Tensor:
    """Language loss of the generative reading from image features (G, 1 + N, D): text exact, locations soft."""
    language_model = network.model.language_model
    prompt = network.get_input_embeddings()(batch.input_ids)
    image_mask = batch.attention_mask.new_ones(features.shape[:2])
    mask = torch.cat([image_mask, batch.attention_mask], dim=1)
    inputs = network.place(torch.cat([features, prompt], dim=1), features.shape[1])
    states = language_model.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
    decoded = language_model.decoder(
        input_ids=decoder_inputs(batch.labels, tokenizer),
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    first = network.config.location_token_id
    outlined, _ = regions_of(batch.input_ids, first)
    boxes = batch.labels.masked_fill(outlined[:, None], IGNORED)  # an outline's locations are none of boxes
    slots = slot_term(network, states, mask, boxes, tokenizer, sigma)
    real = batch.labels != IGNORED
    real[:, 1 : 1 + REGION] &= ~outlined[:, None]  # the region behind <s> is given
    labels = batch.labels[real]
    if not len(labels):
        return features.new_zeros(())
    logits = network.lm_head(decoded[real]).float()  # (tokens, vocabulary)
    located = (labels >= first) & (labels < first + network.grounding.num_bins)
    text = F.cross_entropy(logits[~located], labels[~located], reduction="sum")
    if not located.any():
        return text / len(labels)
    return (text + _soft_loss(network, logits[located], labels[located], sigma)) / len(labels) + slots


def slot_term(
    network: Florence2ForGrounding, states: Tensor, mask: Tensor, labels: Tensor, tokenizer: Tokenizer, sigma: float
) -> Tensor:
    """Loss per location of x2 and y2 read behind x1 alone, of one box of each answer (G, T); 0 without slots.

    The answer is cut behind the x1 of a box that torch's global generator chooses, and the slots stand where y1 and
    x2 would. `states` and `mask` are the encoder's.
    """
    first = network.config.location_token_id
    located = (labels >= first) & (labels < first + network.grounding.num_bins)
    starts = located & (located.cumsum(1) % 4 == 1)  # x1 of each box
    boxed = starts.any(1)
    if network.box_slots is None or not boxed.any():
        return states.new_zeros(())
    labels, starts = labels[boxed], starts[boxed]
    x1 = torch.multinomial(starts.float(), 1)  # (g, 1) its index in the labels; as an input it stands one behind
    rows, ends = torch.arange(len(labels), device=labels.device)[:, None], x1 + torch.tensor([2, 3]).to(x1.device)
    decoder = network.model.language_model.decoder
    embeds = decoder.embed_tokens(decoder_inputs(labels, tokenizer))
    # What stands behind the slots is not cut off: nothing before it looks there.
    embeds = embeds.index_put((rows, ends), network.box_slots.to(embeds.dtype).expand(len(labels), -1, -1))
    decoded = decoder(
        inputs_embeds=embeds,
        encoder_hidden_states=states[boxed],
        encoder_attention_mask=mask[boxed],
        use_cache=False,
    ).last_hidden_state
    logits = network.lm_head(decoded[rows, ends]).float()  # (g, 2, vocabulary)
    return _soft_loss(network, logits.flatten(0, 1), labels[rows, ends].flatten(), sigma) / ends.numel()


def _soft_loss(network: Florence2ForGrounding, logits: Tensor, labels: Tensor, sigma: float) -> Tensor:
    """Sum of the cross-entropies of logits (N, vocabulary) against soft targets around locations (N,).

    The soft target lies within the location tokens; the mass outside them is a mistake like any other.
    """
    first, bins = network.config.location_token_id, network.grounding.num_bins
    log_probabilities = logits.log_softmax(-1)[:, first : first + bins]
    targets = location_targets(labels - first + 0.5, sigma, bins)
    return -(targets * log_probabilities).sum()


def batch_terms(
    network: Florence2ForGrounding,
    image: Tensor,
    found: Positives,
    prompts: GroundingPrompts,
    sparse: Sequence[Sequence[str]],
    generative: GenerativeBatch | None,
    tokenizer: Tokenizer,
    sigma: float,
    class_weights: Tensor | None = None,
) -> Terms:
    """All terms for tiles (B, S, S, 3) uint8; the generative batch, if any, asks about the first G of them."""
    features, early = network.look(network.normalise(image))
    states = network.grounding_tokens(features, early)
    embeddings = network.encode_prompts(*encode_batch(tokenizer, prompts.texts, LENGTH_BUCKETS[-1]))
    match, giou, location = grounding_terms(network, states, prompts, embeddings, found, sparse, sigma, class_weights)
    if generative is None:
        return Terms(match, giou, location, states.new_zeros(()))
    asked = features[: len(generative.labels)]
    return Terms(match, giou, location, language_term(network, asked, generative, tokenizer, sigma))


def decoder_terms(
    network: Florence2ForGrounding, image: Tensor, generative: GenerativeBatch, tokenizer: Tokenizer, sigma: float
) -> Terms:
    """The language loss alone, for tiles (G, S, S, 3) uint8, when everything but the decoder is frozen."""
    features = network.image_features(network.normalise(image))
    zero = features.new_zeros(())
    return Terms(zero, zero, zero, language_term(network, features, generative, tokenizer, sigma))


def mean_terms(history: Sequence[Terms]) -> dict[str, float]:
    """The mean of each term, for the log."""
    return {
        name: float(torch.stack([getattr(terms, name).detach() for terms in history]).mean())
        for name in ("match", "giou", "location", "language")
    }
