import pytest
import torch

from training.objective import answer_somewhere
from training.targets import GroundingPrompts

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
