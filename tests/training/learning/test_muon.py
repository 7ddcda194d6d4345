import pytest
import torch

from training.learning.muon import Muon, orthogonalise


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 40), (30, 80), (80, 30)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, int], precision: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    update = orthogonalise(matrix.to(precision)).float()
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.3
    assert values.max() < 1.3
    # The directions stay: the update is U V^T of the matrix's own decomposition.
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(update.flatten(), (u @ vh).flatten(), dim=0) > 0.95


def test_muon_finds_the_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, x = torch.randn(8, 12, generator=generator), torch.randn(64, 12, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(8, 12))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        ((x @ weight.T - x @ wanted.T) ** 2).mean().backward()
        optimizer.step()
    assert torch.allclose(weight, wanted, atol=0.05)


def test_muon_refuses_what_is_not_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1, weight_decay=0.0)
