"""Attention in bfloat16 on a CPU: what transformers' eager attention computes, several times as fast.

Under autocast eager attention takes its softmax in fp32 and multiplies every score by the scale, both ways; of
scaled_dot_product_attention the backward pass is slow there. Here the queries are scaled instead of the scores, and
every product and the softmax, which adds up in fp32 inside, read and write bfloat16.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F  # noqa: N812
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

BFLOAT16_ATTENTION = "bfloat16_cpu"  # a name for `set_attn_implementation`


class _Attention(torch.autograd.Function):
    """Scaled queries (N, L, D), keys (N, M, D), values (N, M, E) and an added mask (N, L, M) -> (N, L, E)."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = torch.bmm(query, key.transpose(1, 2))
        if mask is not None:
            scores += mask
        weights = scores.softmax(-1)
        ctx.save_for_backward(query, key, value, weights)
        return torch.bmm(weights, value)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        of_scores = torch._softmax_backward_data(torch.bmm(gradient, value.transpose(1, 2)), weights, -1, weights.dtype)
        of_key = torch.bmm(of_scores.transpose(1, 2), query)
        return torch.bmm(of_scores, key), of_key, torch.bmm(weights.transpose(1, 2), gradient), None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Queries (B, H, L, D), keys (B, H, M, D), values (B, H, M, E) -> (B, L, H, E); as transformers calls attention.

    `attention_mask` broadcasts to (B, H, L, M) and is added to the scores.
    """
    batch, heads, length, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = (each.bfloat16() for each in (query, key, value))
        if module.training and dropout:
            scores = query * scale @ key.transpose(2, 3)
            weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
            found = F.dropout(weights, dropout).to(value.dtype) @ value
        else:
            mask = None
            if attention_mask is not None:
                least = torch.finfo(query.dtype).min  # fp32's would become an infinity
                mask = attention_mask.clamp(min=least).to(query.dtype)
                mask = mask.expand(batch, heads, length, key.shape[2]).flatten(0, 1)
            parts = (each.flatten(0, 1) for each in (query * scale, key, value))
            attended: Tensor = _Attention.apply(*parts, mask)  # type: ignore[no-untyped-call]
            found = attended.unflatten(0, (batch, heads))
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(BFLOAT16_ATTENTION, attend)
AttentionMaskInterface.register(BFLOAT16_ATTENTION, eager_mask)
