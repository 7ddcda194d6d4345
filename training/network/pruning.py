"""Structured pruning: which hidden channels of the feed-forward blocks matter, and the network without the others.

A feed-forward block is any module with `fc1` and `fc2`: BART's encoder and decoder layers, DaViT's spatial and
channel blocks; and the fine tokens, which call them `expand` and `reduce`. What goes is a row and bias of the first
with its column of the second, so that the matrices really get smaller. Attention, the depth-wise convolutions, which
act on the residual width, and the residual width stay.
The library torch-pruning finds the same pairs by tracing, but leaves no configuration that rebuilds the network, only
a pickle; two matrices that face each other need no dependency graph. Knows nothing of crops and files.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.network.modeling_florence2_grounding import FEED_FORWARDS, Florence2ForGrounding

TOGETHER = 8  # channels of a block that go at once: tensor cores are fast at multiples of 8
KEPT_SHARE = 0.125  # of its channels that every block keeps, however little they matter


class PruningError(ValueError):
    """A network cannot be pruned as asked."""


@dataclass(frozen=True)
class FeedForward:
    """A block's matrices between the residual width D and its C hidden channels, and what the block calls them."""

    fc1: nn.Linear  # D to C
    fc2: nn.Linear  # C to D
    names: tuple[str, str]


def feed_forwards(network: nn.Module) -> dict[str, FeedForward]:
    """The feed-forward blocks by module name."""
    return {
        name: FeedForward(getattr(module, names[0]), getattr(module, names[1]), names)
        for name, module in network.named_modules()
        for names in FEED_FORWARDS
        if all(hasattr(module, layer) for layer in names)
    }


def channel_importance(network: nn.Module, losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """How much the loss depends on each hidden channel (C,), by block: first-order Taylor, the mean over `losses`.

    |w dL/dw|, summed over the weights that go with the channel. The losses are scalars of `network`, consumed one
    by one. (Molchanov et al., Importance Estimation for Neural Network Pruning, 2019; absolute values for squares.)

    Raises:
        PruningError: names the blocks whose gradients are not finite.
    """
    blocks = feed_forwards(network)
    weights = [w for block in blocks.values() for w in (block.fc1.weight, block.fc1.bias, block.fc2.weight)]
    sums = {name: torch.zeros(block.fc1.out_features) for name, block in blocks.items()}
    count = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)  # the decoder's, where nothing is asked of it
        changes = iter(
            [
                torch.zeros(weight.shape) if grad is None else (weight.detach() * grad).abs().cpu()
                for weight, grad in zip(weights, gradients, strict=True)
            ]
        )
        for name in blocks:
            rows, biases, columns = next(changes), next(changes), next(changes)  # (C, D), (C,), (D, C)
            sums[name] += rows.sum(1) + biases + columns.sum(0)
        count += 1
    broken = [name for name, values in sums.items() if not values.isfinite().all()]
    if broken:
        raise PruningError(
            f"the loss has gradients that are not finite in {', '.join(broken)}; train the checkpoint again"
        )
    return {name: values / count for name, values in sums.items()}


def choose_channels(importance: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """The indices, ascending, of the channels to keep, by block, so that a share `sparsity` of all channels goes.

    Importances are divided by their block's mean and ranked over all blocks, in portions of TOGETHER channels; every
    block keeps KEPT_SHARE of its own. Without the division a few blocks are all but emptied, which costs less at
    first but recovers worse.

    Raises:
        PruningError: not so many channels can go; says how many.
    """
    orders = {name: values.argsort(stable=True) for name, values in importance.items()}
    portions: list[tuple[float, str]] = []  # that can go, with their mean relative importance
    for name, values in importance.items():
        removable = (len(values) - math.ceil(KEPT_SHARE * len(values))) // TOGETHER
        relative = values / values.mean().clamp(min=torch.finfo(values.dtype).tiny)
        ascending = relative[orders[name]][: removable * TOGETHER].reshape(removable, TOGETHER)
        portions += [(mean, name) for mean in ascending.mean(1).tolist()]
    total = sum(map(len, importance.values()))
    wanted = round(sparsity * total / TOGETHER)
    if wanted > len(portions):
        removable = len(portions) * TOGETHER
        raise PruningError(
            f"sparsity {sparsity:g}: blocks would vanish; {removable} of {total} channels can go, since every block "
            f"keeps {KEPT_SHARE:.1%} of its own: give at most {math.floor(1000 * removable / total) / 1000:g}"
        )
    removed = dict.fromkeys(importance, 0)
    for _, name in sorted(portions)[:wanted]:
        removed[name] += TOGETHER
    return {name: order[removed[name] :].sort().values for name, order in orders.items()}


def keep_channels(network: Florence2ForGrounding, kept: Mapping[str, Tensor]) -> Florence2ForGrounding:
    """A network, in evaluation mode, that has only these channels (indices by block); its configuration says so.

    It is built by its configuration, the way that loading a checkpoint builds it.
    """
    config = copy.deepcopy(network.config)
    weights = network.state_dict()
    blocks = feed_forwards(network)
    widths = dict(config.pruned_ffn or {})
    for name, channels in kept.items():
        if len(channels) < blocks[name].fc1.out_features:
            widths[name] = len(channels)
            first, second = blocks[name].names
            for layer, axis in ((f"{first}.weight", 0), (f"{first}.bias", 0), (f"{second}.weight", 1)):
                weight = weights[f"{name}.{layer}"]
                weights[f"{name}.{layer}"] = weight.index_select(axis, channels.to(weight.device))
    config.pruned_ffn = widths or None
    pruned = Florence2ForGrounding(config)
    pruned.load_state_dict(weights)
    pruned.generation_config = network.generation_config
    pruned.eval()
    return pruned


def count_parameters(network: nn.Module) -> int:
    """Weights, tied ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_flops(network: Florence2ForGrounding, num_prompts: int = 12) -> int:
    """Floating-point operations, two per multiply-add, of detecting in one tile; the prompts are embedded already."""
    tile = network.config.tile_size
    image = torch.zeros(1, tile, tile, 3, dtype=torch.uint8)
    embeddings = torch.ones(1, num_prompts, network.config.text_config.d_model, device=network.device)
    # The counter does not know the fused attention of a CPU, only the products that it is made of.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.detect(image, embeddings)
    return int(counter.get_total_flops())
