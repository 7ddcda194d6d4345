"""The training's own attention against transformers' eager one in fp32, forwards and backwards."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bart.modeling_bart import eager_attention_forward

from tests.training.networks import small_network
from training.learning.learner import keep_depthwise_exact
from training.network.attention import BFLOAT16_ATTENTION, attend

COARSE = 2**-6  # what bfloat16's eight bits leave of a sum


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def close(given: Tensor | None, wanted: Tensor | None) -> bool:
    assert given is not None
    assert wanted is not None
    return bool((given.float() - wanted).norm() < COARSE * wanted.norm())


@pytest.mark.parametrize(("length", "keys"), [(17, 17), (5, 9)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 1e-9])  # so little that nothing is dropped
def test_it_attends_and_learns_like_transformers_own(length: int, keys: int, masked: bool, dropout: float) -> None:
    inputs = [drawn(2, 3, length, 8), drawn(2, 3, keys, 8), drawn(2, 3, keys, 4)]
    mask = None
    if masked:
        mask = torch.zeros(2, 1, length, keys)
        mask[1, 0, :, keys // 2 :] = torch.finfo(torch.float32).min
        mask[0, 0, 3] = torch.finfo(torch.float32).min  # sees nothing at all
    wanted, _ = eager_attention_forward(nn.Module(), *inputs, mask, scaling=0.5)  # type: ignore[no-untyped-call]
    upwards = drawn(2, length, 3, 4).detach()
    wanted.backward(upwards)
    gradients = [each.grad for each in inputs]
    for each in inputs:
        each.grad = None
    found, _ = attend(nn.Module(), *inputs, mask, scaling=0.5, dropout=dropout)
    found.backward(upwards.bfloat16())
    assert close(found, wanted)
    assert all(close(each.grad, gradient) for each, gradient in zip(inputs, gradients, strict=True))


def test_a_network_sees_with_it_what_it_sees_in_fp32() -> None:
    network = small_network()
    exact = copy.deepcopy(network)
    network.set_attn_implementation(BFLOAT16_ATTENTION)
    keep_depthwise_exact(network)
    size = network.config.tile_size
    pixels = drawn(2, 3, size, size).detach()
    ids, mask = torch.tensor([[0, 7, 8, 2], [0, 9, 2, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = network.grounding_tokens(*network.look(pixels))
        prompts = network.encode_prompts(ids, mask)
    with torch.no_grad():
        assert close(found, exact.grounding_tokens(*exact.look(pixels)))
        assert close(prompts, exact.encode_prompts(ids, mask))
