"""A checkpoint whose answers are worth comparing."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def talkative(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint, whose answers are one token again and again, with weights that make them differ."""
    import torch

    from training.network.checkpoint import load_checkpoint, save_checkpoint

    network, tokenizer, manifest = load_checkpoint(tiny_checkpoint)
    decoder = network.model.language_model.decoder
    embeddings = network.get_input_embeddings().weight
    with torch.no_grad():
        decoder.embed_positions.weight.mul_(10 / decoder.embed_positions.weight.std())
        embeddings[tokenizer.token_to_id("</s>")] *= 4
        embeddings[network.config.location_token_id :] *= 2
        for layer in decoder.layers:
            layer.encoder_attn.out_proj.weight.mul_(6)
    folder = tmp_path_factory.mktemp("checkpoint") / "talkative"
    save_checkpoint(folder, network, tokenizer, manifest, log="")
    return folder
