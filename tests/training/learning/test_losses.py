import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.loss.loss_for_object_detection import generalized_box_iou, sigmoid_focal_loss

from training.learning.losses import focal_loss, giou_loss, location_loss, location_targets


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Numbers about 0 in double precision."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_focal_loss_is_transformers_own() -> None:
    logits = (3 * drawn(2, 7, 5)).requires_grad_()
    targets = (drawn(2, 7, 5, seed=1) > 0.5).double()
    loss, reference = focal_loss(logits, targets), sigmoid_focal_loss(logits, targets, num_boxes=1 / 7)  # a mean of 7
    torch.testing.assert_close(loss, reference)
    gradients = (torch.autograd.grad(value, logits)[0] for value in (loss, reference))
    torch.testing.assert_close(*gradients)


def test_giou_loss_is_transformers_own() -> None:
    corners = drawn(2, 200, 2, 2)
    corners[1, :100] = corners[0, :100] + 0.1 * corners[1, :100]  # half of them nearly alike
    predicted, target = torch.cat([corners.amin(2), corners.amax(2)], -1)  # boxes (200, 4) each
    predicted.requires_grad_()
    loss, reference = giou_loss(predicted, target), 1 - generalized_box_iou(predicted, target).diagonal()
    assert (reference > 1).any()
    assert (reference < 0.5).any()
    torch.testing.assert_close(loss, reference)
    gradients = (torch.autograd.grad(value.sum(), predicted)[0] for value in (loss, reference))
    torch.testing.assert_close(*gradients)


def test_location_loss_is_torchs_cross_entropy_with_soft_labels() -> None:
    logits, bins = 3 * drawn(6, 4, 1000), 1000 * drawn(6, 4, seed=1).sigmoid()
    grid = torch.arange(1000, dtype=torch.float64) + 0.5
    densities = torch.distributions.Normal(bins[..., None], 5.0).log_prob(grid).exp()
    soft = densities / densities.sum(-1, keepdim=True)
    reference = F.cross_entropy(logits.flatten(0, 1), soft.flatten(0, 1), reduction="none").unflatten(0, (6, 4))
    torch.testing.assert_close(location_loss(logits, bins, 5.0), reference)


def test_location_loss_of_a_hand_computed_case() -> None:
    """Even odds of 4 bins cost ln 4, whatever the target; one bin e times as likely as each other saves its share."""
    bins = torch.tensor([1.5, 1.5])  # the middle of the second bin
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    beside, two_beside = math.exp(-1 / 2), math.exp(-4 / 2)  # of the density in the middle, sigma being 1
    share = 1 / (1 + 2 * beside + two_beside)
    expected = [math.log(4), math.log(3 + math.e) - share]
    assert location_loss(logits, bins, 1.0).tolist() == pytest.approx(expected)


def test_focal_loss_of_hand_computed_cases() -> None:
    # p = 0.5: alpha * (1 - p)^2 * -log(p) for a positive, (1 - alpha) * p^2 * -log(1 - p) for a negative.
    positive = 0.25 * 0.25 * math.log(2)
    negative = 0.75 * 0.25 * math.log(2)
    loss = focal_loss(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]))
    assert float(loss) == pytest.approx(positive + 2 * negative)


def test_focal_loss_leaves_out_what_has_no_weight() -> None:
    whole = focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0]))
    half = focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert float(half) == pytest.approx(0.25 * 0.25 * math.log(2))
    assert float(half) < float(whole)


def test_focal_loss_cares_little_for_what_is_right_already() -> None:
    right = focal_loss(torch.tensor([6.0]), torch.tensor([1.0]))
    wrong = focal_loss(torch.tensor([-6.0]), torch.tensor([1.0]))
    assert float(right) < 1e-6 < 1 < float(wrong)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([0.0, 0.0, 1.0, 1.0], 0.0),
        ([0.5, 0.0, 1.5, 1.0], 1 - 1 / 3),  # half over: IoU 1/3, the hull is the union
        ([2.0, 0.0, 3.0, 1.0], 1 + 1 / 3),  # apart: IoU 0, a third of the hull is empty
    ],
)
def test_giou_loss_of_hand_computed_cases(predicted: list[float], expected: float) -> None:
    loss = giou_loss(torch.tensor([predicted]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_location_targets_are_centred_distributions() -> None:
    targets = location_targets(torch.tensor([500.0, 20.5]), 5.0, 1000)
    assert torch.allclose(targets.sum(-1), torch.ones(2))
    bins = torch.arange(1000) + 0.5
    assert torch.allclose((targets * bins).sum(-1), torch.tensor([500.0, 20.5]), atol=0.01)


def test_location_loss_is_least_at_the_target() -> None:
    bins = torch.tensor([300.0])
    best = location_targets(bins, 5.0, 1000).clamp(min=1e-30).log()
    off = location_targets(bins + 20, 5.0, 1000).clamp(min=1e-30).log()
    entropy = 0.5 * math.log(2 * math.pi * math.e * 25)
    assert float(location_loss(best, bins, 5.0)) == pytest.approx(entropy, abs=1e-3)
    assert float(location_loss(off, bins, 5.0)) > entropy + 1
