"""Builds a small Florence-2 with a grounding head from scratch, initialised so that a short run learns."""

import copy
import math
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BartConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from export.contract.locations import location_token
from training.config import ModelConfig
from training.network.modeling_florence2_grounding import FineTokens, Florence2ForGrounding, Florence2GroundingConfig
from training.network.tokenizer import BOS, EOS, IMAGE, PAD, token_id

LOCATION_AMPLITUDE = 0.1  # of the Fourier features that location embeddings start from
POSITION_AMPLITUDE = 0.7  # of those that image rows and columns start from
PROMPT_POSITIONS = 160  # encoder positions beyond the image tokens; the longest prompt has 128 tokens


def build_network(config: ModelConfig, tokenizer: Tokenizer) -> Florence2ForGrounding:
    """A randomly initialised network for `tokenizer`; torch's global generator decides the weights."""
    stages = len(config.vision_widths)
    grid = config.tile_size // math.prod(config.patch_strides)
    special = {token: token_id(tokenizer, token) for token in (BOS, PAD, EOS, IMAGE, location_token(0))}
    vision = Florence2VisionConfig(
        depths=config.vision_depths,
        embed_dim=config.vision_widths,
        num_heads=config.vision_heads,
        num_groups=config.vision_heads,
        patch_size=config.patch_sizes,
        patch_stride=config.patch_strides,
        patch_padding=tuple(size // 2 for size in config.patch_sizes),
        patch_prenorm=(False, *[True] * (stages - 1)),
        window_size=config.window_size,
        projection_dim=config.width,
        max_position_embeddings=grid,
        drop_path_rate=0.0,
    )
    text = BartConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=config.width,
        encoder_layers=config.layers,
        decoder_layers=config.layers,
        encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads,
        encoder_ffn_dim=config.ffn,
        decoder_ffn_dim=config.ffn,
        max_position_embeddings=grid * grid + 1 + PROMPT_POSITIONS,
        dropout=0.0,
        bos_token_id=special[BOS],
        pad_token_id=special[PAD],
        eos_token_id=special[EOS],
        decoder_start_token_id=special[EOS],
        forced_bos_token_id=special[BOS],
        forced_eos_token_id=None,
    )
    network = Florence2ForGrounding(
        Florence2GroundingConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=special[IMAGE],
            tile_size=config.tile_size,
            boxes_per_tile=config.boxes_per_tile,
            location_token_id=special[location_token(0)],
            fine_tokens=config.fine_tokens,
        )
    )
    _initialise(network)
    return network


@torch.no_grad()
def initialise_by_fan_in(network: nn.Module) -> None:
    """Matrices and convolutions of a network, or a part of one, to unit gain; BART's 0.02 is for one width only.

    Fine tokens start as copies of the tokens that they come from.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, FineTokens):
            module.start_as_copies()


def add_fine_tokens(network: Florence2ForGrounding) -> None:
    """Gives a network fine tokens that start as copies of those it has, and nothing where it has them already."""
    if network.grounding.fine is not None:
        return
    network.config.fine_tokens = True
    head = network.new_grounding_head()
    initialise_by_fan_in(head)
    head.load_state_dict(head.state_dict() | network.grounding.state_dict())
    network.grounding = head


@torch.no_grad()
def deepen_vision(network: Florence2ForGrounding, depths: Sequence[int]) -> Florence2ForGrounding:
    """A network with `depths` DaViT blocks in its stages that gives what `network` gives, and can learn more.

    The blocks that are new stand behind those that a stage has and pass on what comes to them: what they would add
    starts at zero. (Chen et al., Net2Net: Accelerating Learning via Knowledge Transfer, 2016.)

    Raises:
        ValueError: a stage would lose blocks, or the number of stages is another.
    """
    present = network.config.vision_config.depths
    if len(depths) != len(present) or any(wanted < has for wanted, has in zip(depths, present, strict=True)):
        raise ValueError(f"{list(depths)} blocks a stage are not at least the {list(present)} that the network has")
    config = copy.deepcopy(network.config)
    config.vision_config.depths = tuple(depths)
    deeper = Florence2ForGrounding(config)
    for blocks, has in zip(deeper.model.vision_tower.blocks, present, strict=True):
        for block in blocks[has:]:
            initialise_by_fan_in(block)
            spatial, channel = block.spatial_block, block.channel_block
            added = [spatial.window_attn.proj, channel.channel_attn.proj]
            for part in (spatial, channel):
                added += [part.conv1, part.conv2, part.ffn.fc2]
            for layer in added:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
    deeper.load_state_dict(deeper.state_dict() | network.state_dict())
    deeper.train(network.training)
    return deeper


@torch.no_grad()
def _initialise(network: Florence2ForGrounding) -> None:
    """Matrices by fan-in, Fourier features for locations and positions."""
    initialise_by_fan_in(network)
    embeddings = network.get_input_embeddings().weight
    first = network.config.location_token_id
    bins = network.grounding.num_bins
    nn.init.normal_(embeddings, std=0.1)
    embeddings[first : first + bins] = LOCATION_AMPLITUDE * _fourier(bins, embeddings.shape[1])
    network.tie_weights()
    position = network.model.multi_modal_projector.image_position_embed
    for table in (position.row_embeddings, position.column_embeddings):
        table.weight.copy_(POSITION_AMPLITUDE * _fourier(*table.weight.shape))


def _fourier(positions: int, width: int) -> Tensor:
    """Sines and cosines (positions, width) of frequencies from half a period up to a period of 8 positions."""
    place = (torch.arange(positions) + 0.5) / positions
    frequencies = torch.logspace(math.log10(0.5), math.log10(max(1.0, positions / 8)), width // 2)
    angles = 2 * math.pi * place[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
