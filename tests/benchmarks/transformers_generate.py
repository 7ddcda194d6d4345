"""transformers' own `generate` on a checkpoint, as somebody would call it who has no engines: PyTorch, fp32, greedy."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from export.graphs.checkpoint import Checkpoint
from export.runtime.engine import Arrays


@torch.inference_mode()
def transformers_generate(
    checkpoint: Checkpoint, images: NDArray[Any], words: Arrays, most_tokens: int, least_tokens: int = 0
) -> Tensor:
    """Every prompt about every image, each image encoded once: tokens (N * P, L), the prompts of an image side by side.

    Images are (N, S, S, 3), `words` has INPUT_IDS and ATTENTION_MASK (P, L). Tokens are counted behind <s>.
    """
    network: Any = checkpoint.network
    mask = torch.from_numpy(words["ATTENTION_MASK"])
    mask = mask[:, : int(mask.sum(1).max())].repeat(len(images), 1)
    input_ids = torch.from_numpy(words["INPUT_IDS"])[:, : mask.shape[1]].repeat(len(images), 1)
    features = network.image_features(network.normalise(torch.from_numpy(images)))
    features = features.repeat_interleave(len(words["INPUT_IDS"]), dim=0)
    embeds = torch.cat([features, network.get_input_embeddings()(input_ids)], dim=1)
    mask = torch.cat([mask.new_ones(features.shape[:2]), mask], dim=1)
    states = network.model.language_model.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    tokens: Tensor = network.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        min_new_tokens=least_tokens + 1,  # and <s>
        max_new_tokens=most_tokens + 1,
    )
    return tokens
