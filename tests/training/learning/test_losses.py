import math

import pytest
import torch

from training.learning.losses import focal_loss, giou_loss, location_loss, location_targets


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
