"""How definite a box is, by the distributions that its edges were read from."""

import math

import pytest
import torch

from tests.training.networks import small_network
from training.network.modeling_florence2_grounding import LEAST_PROBABILITY, GroundingHead


def edge_logits(spread: float, width: float) -> torch.Tensor:
    """Of a box `width` bins wide and high around its token: all edges even within `spread` bins each way."""
    bins = torch.arange(1000) - 499.5
    middles = torch.tensor([-0.5, -0.5, 0.5, 0.5])[:, None] * width
    return torch.where((bins - middles).abs() <= spread, 0.0, -1e4)[None]


def certainty(spread: float, width: float) -> float:
    head, centre, logits = GroundingHead(8), torch.tensor([[0.5, 0.5]]), edge_logits(spread, width)
    return float(head.certainty(logits, centre, head.read_boxes(logits, centre)))


@pytest.mark.parametrize("width", [20, 200])
def test_an_edge_that_can_be_nowhere_else_is_certain(width: float) -> None:
    assert certainty(2, width) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("width", "reach"), [(20, 6.5), (65, 6.5), (200, 20)])
def test_what_lies_beyond_a_tenth_of_the_box_is_uncertain(width: float, reach: float) -> None:
    assert certainty(40, width) == pytest.approx(math.log(2 * reach / 80.5), abs=0.02)


def test_an_edge_that_is_never_where_it_was_read_counts_as_hardly_probable() -> None:
    """Half of it lies far to the left, half far to the right: the mean of both is nowhere."""
    logits = edge_logits(2, 50)
    logits[0, 0] = torch.where((torch.arange(1000) - 499.5).abs() == 300.5, 0.0, -1e4)
    head, centre = GroundingHead(8), torch.tensor([[0.5, 0.5]])
    value = float(head.certainty(logits, centre, head.read_boxes(logits, centre)))
    assert value == pytest.approx(math.log(LEAST_PROBABILITY) / 4, abs=1e-3)


def test_a_score_is_the_match_lessened_by_what_is_uncertain() -> None:
    network = small_network()
    network.config.boxes_per_tile = 8
    tile = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    prompts = torch.nn.functional.normalize(torch.randn(2, 3, 32), dim=-1)
    prompts[:, 2] = 0
    with torch.inference_mode():
        boxes, plain = network.detect(tile, prompts)
        network.config.certainty = 1.5
        same, scores = network.detect(tile, prompts)
    torch.testing.assert_close(boxes, same)
    assert (scores[..., :2] < plain[..., :2]).all()
    lessened = (scores.logit() - plain.logit())[..., :2]
    torch.testing.assert_close(lessened[..., 0], lessened[..., 1])  # of the box, whatever was asked
    assert (scores[..., 2] == 0).all()  # padding
