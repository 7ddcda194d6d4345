import math

import pytest
import torch

from tests.training.networks import small_network
from training.objective import answer_somewhere, grounding_terms
from training.targets import GroundingPrompts, Positives

PROMPTS = GroundingPrompts(["scratch", "a scratch along the edge"], [0, "a scratch along the edge"])


def weighed(sparse: list[tuple[str, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and weights (2 images, 3 tokens, 2 prompts) after sparse labels; the second token is the best."""
    logits = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [0.0, 1.0]]]).repeat(2, 1, 1)
    targets, weights = torch.zeros_like(logits), torch.ones_like(logits)
    answer_somewhere(logits, targets, weights, PROMPTS, sparse)
    return targets, weights


def test_the_best_token_of_an_image_answers_its_sparse_label_and_nothing_else_is_known_of_it() -> None:
    targets, weights = weighed([("a scratch along the edge",), ()])
    assert targets[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert weights[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert targets[1].sum() == 0
    assert weights[1].min() == 1


@pytest.mark.parametrize("sparse", [[("something that is not asked",), ()]])
def test_an_image_whose_sparse_label_is_not_asked_teaches_nothing(sparse: list[tuple[str, ...]]) -> None:
    targets, weights = weighed(sparse)
    assert targets[0].sum() == 0
    assert weights[0].sum() == 0


@pytest.mark.parametrize(("class_weights", "expected"), [(None, 0.625), ([1.0, 1.0], 0.625), ([1.0, 3.0], 0.875)])
def test_a_token_counts_as_its_class_is_weighted(class_weights: list[float] | None, expected: float) -> None:
    """Four tokens, two prompts, all scores 0.5: a right answer costs ln 2 / 16, a wrong one 3 ln 2 / 16.

    Two right and six wrong ones are 20 / 16 for two positive tokens; the second one's row is 4 / 16 and counts thrice.
    """
    network = small_network()
    with torch.no_grad():
        network.grounding.match_scale.zero_()
        network.grounding.match_bias.zero_()
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]])
    found = Positives(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0, 1]), boxes, [(), ()])
    prompts = GroundingPrompts(["scratch", "short"], [0, 1])
    weights = None if class_weights is None else torch.tensor(class_weights)
    match, _, _ = grounding_terms(
        network, torch.rand(1, 4, 32), prompts, torch.rand(2, 32), found, [()], sigma=5.0, class_weights=weights
    )
    assert match.item() == pytest.approx(expected * math.log(2))
