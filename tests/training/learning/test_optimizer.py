import copy

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from training.config import read_config
from training.learning.optimizer import Optimizer

CONFIG = ROOT / "training" / "configs" / "deeppcb_tiny.yaml"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 8), nn.LayerNorm(8))


@pytest.mark.parametrize(("matrix_lr", "parts"), [("null", {"adamw"}), ("0.01", {"adamw", "muon"})])
def test_optimizer_moves_every_weight(matrix_lr: str, parts: set[str]) -> None:
    model = network()
    optimizer = Optimizer(model, read_config(CONFIG, [f"train.matrix_lr={matrix_lr}"]).train, 0, 10)
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.arange(7)).square().sum().backward()
    assert optimizer.step(5) > 0
    assert set(optimizer.state_dict()) == parts
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("matrix_lr", ["null", "0.01"])
def test_optimizer_goes_on_from_its_state(matrix_lr: str) -> None:
    train = read_config(CONFIG, [f"train.matrix_lr={matrix_lr}"]).train
    model = network()
    optimizer = Optimizer(model, train, 0, 10)
    for step in range(2):
        model(torch.arange(7)).square().sum().backward()
        optimizer.step(step)
    other = network()
    other.load_state_dict(model.state_dict())
    resumed = Optimizer(other, train, 0, 10)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((model, optimizer), (other, resumed)):
        each(torch.arange(7)).square().sum().backward()
        its.step(2)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("matrix_lr", ["null", "0.01"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_changes_nothing(matrix_lr: str, value: float) -> None:
    model = network()
    optimizer = Optimizer(model, read_config(CONFIG, [f"train.matrix_lr={matrix_lr}"]).train, 0, 10)
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.arange(7)).square().sum().backward()
    assert model[1].weight.grad is not None
    model[1].weight.grad[0, 0] = value
    with pytest.raises(FloatingPointError, match="step 6"):
        optimizer.step(5)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_optimizer_leaves_frozen_weights_alone() -> None:
    model = network()
    model[1].requires_grad_(False)
    optimizer = Optimizer(model, read_config(CONFIG, ["train.matrix_lr=null"]).train, 0, 10)
    before = model[1].weight.clone()
    model(torch.arange(7)).square().sum().backward()
    optimizer.step(5)
    assert torch.equal(before, model[1].weight)


def test_a_run_shorter_than_its_warm_up_reaches_its_learning_rate_and_falls_again() -> None:
    train = read_config(CONFIG, ["train.warmup_steps=100"]).train
    optimizer = Optimizer(network(), train, 20, 60)
    factors = [optimizer.learning_rate_factor(step) for step in range(20, 60)]
    assert max(factors) == factors[9] == 1
    assert factors[-1] < 0.02
