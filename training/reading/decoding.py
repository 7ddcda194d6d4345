"""The decoder of a batch of answers under way: several inputs a step, of which each answer keeps as many as are right.

Answers may be of different lengths: the cached columns of each stand side by side in front, and each input gets the
position that it has in its own answer. Knows nothing of what the tokens mean.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.lengths import check_lengths
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.tokenizer import encode_batch


class Decoding:
    """What the encoder says of B images and prompts, and the decoder's columns of B answers to them."""

    def __init__(
        self, network: Florence2ForGrounding, tokenizer: Tokenizer, features: Tensor, prompts: Sequence[str]
    ) -> None:
        """Image features (B, 1 + N, D) and the prompts about them.

        Raises:
            DatasetError: names the prompts that are too long.
        """
        check_lengths(prompts, tokenizer)
        self.network = network
        device = network.device
        self.input_ids, attention_mask = (tensor.to(device) for tensor in encode_batch(tokenizer, prompts))
        self.mask = torch.cat([attention_mask.new_ones(features.shape[:2]), attention_mask], dim=1)
        embeds = torch.cat([features, network.get_input_embeddings()(self.input_ids)], dim=1)
        encoder = network.model.language_model.encoder
        self.states = encoder(inputs_embeds=embeds, attention_mask=self.mask).last_hidden_state
        self.cache = None
        self.lengths = torch.zeros(len(prompts), dtype=torch.int64, device=device)  # columns kept of each answer
        self.columns = self.inputs = 0  # cached of the longest answer; taken in the last step

    def step(self, embeds: Tensor) -> Tensor:
        """Inputs (B, T, D), each of which sees those before it -> logits (B, T, vocabulary); then comes `keep`."""
        decoder = self.network.model.language_model.decoder
        self.inputs = embeds.shape[1]
        ahead = torch.arange(self.inputs, device=embeds.device)
        table = decoder.embed_positions.weight[decoder.embed_positions.offset :]
        own = table[(self.lengths[:, None] + ahead).clamp(max=len(table) - 1)]  # (B, T, D)
        kept = torch.arange(self.columns, device=embeds.device) < self.lengths[:, None]
        output = decoder(
            inputs_embeds=embeds + (own - table[self.columns + ahead]),  # the decoder adds the latter
            attention_mask=torch.cat([kept, kept.new_ones(embeds.shape[:2])], dim=1),
            encoder_hidden_states=self.states,
            encoder_attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        logits: Tensor = self.network.lm_head(output.last_hidden_state)
        return logits

    def keep(self, counts: Tensor) -> None:
        """Keeps the columns of the first `counts` (B,) inputs of the last step."""
        lengths = self.lengths + counts
        if bool((lengths == self.columns + self.inputs).all()):  # all of them, so they stand where they should
            self.lengths, self.columns = lengths, self.columns + self.inputs
            return
        place = torch.arange(int(lengths.max()), device=lengths.device)
        column = torch.where(place < self.lengths[:, None], place, self.columns + place - self.lengths[:, None])
        column = column.clamp(max=self.columns + self.inputs - 1)[:, None, :, None]  # (B, 1, C, 1)
        for layer in self.cache.self_attention_cache.layers:  # type: ignore[attr-defined]
            for name in ("keys", "values"):
                cached = getattr(layer, name)  # (B, H, C, W)
                setattr(layer, name, cached.gather(2, column.expand(-1, cached.shape[1], -1, cached.shape[3])))
        self.lengths, self.columns = lengths, len(place)
