"""The terms that training minimises: focal matching, location distributions, GIoU.

Focal loss: Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5. GIoU: Rezatofighi et al.,
Generalized Intersection over Union, 2019, algorithm 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


def focal_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over all elements of the sigmoid focal loss; logits, targets (0 or 1) and weights have one shape."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = torch.sigmoid(logits)
    wrong = probability + targets - 2 * probability * targets  # 1 - p_t
    alpha = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    loss = alpha * wrong.pow(FOCAL_GAMMA) * cross_entropy
    return (loss if weights is None else loss * weights).sum()


def giou_loss(predicted_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """1 - GIoU of each pair of boxes (N, 4) -> (N,), between 0 and 2."""
    top_left = torch.maximum(predicted_xyxy[:, :2], target_xyxy[:, :2])
    bottom_right = torch.minimum(predicted_xyxy[:, 2:], target_xyxy[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(1)
    area_predicted = (predicted_xyxy[:, 2:] - predicted_xyxy[:, :2]).clamp(min=0).prod(1)
    area_target = (target_xyxy[:, 2:] - target_xyxy[:, :2]).clamp(min=0).prod(1)
    union = area_predicted + area_target - intersection
    hull_top_left = torch.minimum(predicted_xyxy[:, :2], target_xyxy[:, :2])
    hull_bottom_right = torch.maximum(predicted_xyxy[:, 2:], target_xyxy[:, 2:])
    hull = (hull_bottom_right - hull_top_left).clamp(min=0).prod(1)
    iou = intersection / union.clamp(min=1e-9)
    return 1 - iou + (hull - union) / hull.clamp(min=1e-9)


def location_targets(bins: Tensor, sigma: float, num_bins: int) -> Tensor:
    """Positions (...) in bins to distributions (..., num_bins): a Gaussian of `sigma` bins, summing to 1."""
    grid = torch.arange(num_bins, device=bins.device, dtype=torch.float32) + 0.5
    return torch.softmax(-0.5 * ((grid - bins[..., None]) / sigma).square(), dim=-1)


def location_loss(logits: Tensor, bins: Tensor, sigma: float) -> Tensor:
    """Cross-entropies (...) of location logits (..., 1000) against soft targets around `bins` (...)."""
    targets = location_targets(bins, sigma, logits.shape[-1])
    return -(targets * logits.log_softmax(-1)).sum(-1)
