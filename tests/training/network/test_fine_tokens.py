"""Four tokens of the grounding reading where the backbone has one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.boards import write_boards
from tests.training.networks import SIDE, small_network
from tests.training.published_florence2 import SMALL, write_native
from tests.training.small_run import CONFIG, settings
from training.config import read_config
from training.network.building import add_fine_tokens
from training.network.checkpoint import load_checkpoint
from training.network.modeling_florence2_grounding import FineTokens, Florence2ForGrounding
from training.network.pretrained import load_pretrained
from training.train import Run

TILE = 128


@pytest.fixture
def tiles() -> Tensor:
    return torch.randint(0, 256, (2, TILE, TILE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tokens(network: Florence2ForGrounding, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network.grounding_tokens(*network.look(network.normalise(image)))


def repeated(grid: Tensor, side: int) -> Tensor:
    """Each of (B, side * side, D) tokens four times, where its quarters are."""
    cells = grid.unflatten(1, (side, side))
    return cells.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)


def test_a_network_that_is_given_fine_tokens_matches_as_before(tiles: Tensor) -> None:
    network = small_network()
    before = tokens(network, tiles)
    match_before = network.grounding.match(before, torch.eye(32)[:3])
    add_fine_tokens(network)
    after = tokens(network, tiles)
    torch.testing.assert_close(after, repeated(before, SIDE))
    torch.testing.assert_close(
        network.grounding.match(after, torch.eye(32)[:3]).detach(), repeated(match_before, SIDE).detach()
    )


def test_a_network_that_has_fine_tokens_keeps_what_they_learned() -> None:
    network = small_network()
    add_fine_tokens(network)
    learned = network.grounding
    add_fine_tokens(network)
    assert network.grounding is learned


def test_a_fine_token_sees_the_earlier_stage_at_its_own_place() -> None:
    torch.manual_seed(0)
    fine = FineTokens(6, 5)
    fine.start_as_copies()
    torch.nn.init.normal_(fine.early_projection.weight)
    states, early = torch.rand(1, 6, 6), torch.rand(1, 5, 4, 6)  # 2 x 3 cells
    changed = early.clone()
    changed[0, :, 1, 4] += torch.rand(5)
    with torch.inference_mode():
        moved = (fine(states, changed) != fine(states, early)).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [1 * 6 + 4]


def test_both_what_was_there_and_what_is_new_learn(tiles: Tensor) -> None:
    network = small_network()
    add_fine_tokens(network)
    found = network.grounding_tokens(*network.look(network.normalise(tiles[:, :64, :64])))
    assert found.shape == (2, 64, 32)  # a smaller picture: 4 x 4 cells
    (found * torch.randn_like(found)).sum().backward()
    fine = network.grounding.fine
    assert fine is not None
    for layer in (fine.split, fine.early_projection, fine.reduce, network.model.vision_tower.convs[0].conv):
        assert layer.weight.grad is not None
        assert layer.weight.grad.any()


def test_a_published_network_gets_them_from_the_start(tmp_path: Path, tiles: Tensor) -> None:
    folder = write_native(tmp_path / "native", SMALL)
    network, _ = load_pretrained(folder, tile_size=TILE, boxes_per_tile=4, fine_tokens=True)
    without, _ = load_pretrained(folder, tile_size=TILE, boxes_per_tile=4)
    coarse = tokens(without.eval(), tiles)
    torch.testing.assert_close(tokens(network.eval(), tiles), repeated(coarse, round(coarse.shape[1] ** 0.5)))


def test_a_run_adds_them_to_a_checkpoint_and_they_come_back_from_the_next(tmp_path: Path, tiles: Tensor) -> None:
    data = write_boards(tmp_path / "data")
    Run(read_config(CONFIG, settings(data, tmp_path / "first"))).train()
    first = tmp_path / "first" / "checkpoint"
    kept = [setting for setting in settings(data, tmp_path / "second") if not setting.startswith("model.")]
    run = Run(read_config(CONFIG, [*kept, f"model={{checkpoint: {first}, add_fine_tokens: true}}"]))
    assert run.batches.stride == 8
    run.train()
    assert load_checkpoint(first)[0].grounding.fine is None
    network, _, _ = load_checkpoint(tmp_path / "second" / "checkpoint")
    assert tokens(network, tiles).shape == (2, 4 * SIDE * SIDE, 32)
    averaged = run.learner.average.eval()
    torch.testing.assert_close(tokens(network, tiles), tokens(averaged, tiles), atol=2e-2, rtol=2e-2)  # kept as fp16
