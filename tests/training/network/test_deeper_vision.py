"""A network that goes on with more DaViT blocks than it had."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.boards import write_boards
from tests.training.networks import small_network
from tests.training.small_run import CONFIG, settings
from training.config import ConfigError, read_config
from training.network.building import deepen_vision
from training.network.checkpoint import load_checkpoint
from training.train import Run

TILE = 128


@pytest.fixture
def tiles() -> Tensor:
    return torch.randint(0, 256, (2, TILE, TILE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_deeper_network_sees_what_it_saw_before(tiles: Tensor) -> None:
    network = small_network()
    deeper = deepen_vision(network, [1, 3])
    assert [len(blocks) for blocks in deeper.model.vision_tower.blocks] == [1, 3]
    with torch.no_grad():
        before, early_before = network.look(network.normalise(tiles))
        after, early_after = deeper.look(deeper.normalise(tiles))
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(early_after, early_before)
    prompt = torch.ones(1, 3, dtype=torch.long)
    torch.testing.assert_close(deeper.encode_prompts(prompt, prompt), network.encode_prompts(prompt, prompt))


def test_every_added_block_learns(tiles: Tensor) -> None:
    deeper = deepen_vision(small_network(), [1, 2])
    found = deeper.grounding_tokens(*deeper.look(deeper.normalise(tiles)))
    (found * torch.randn_like(found)).sum().backward()
    for block in (deeper.model.vision_tower.blocks[0][0], deeper.model.vision_tower.blocks[1][1]):
        for part, attention in (
            (block.spatial_block, block.spatial_block.window_attn),
            (block.channel_block, block.channel_block.channel_attn),
        ):
            for layer in (part.conv1, part.conv2, part.ffn.fc2, attention.proj):
                assert layer.weight.grad is not None
                assert layer.weight.grad.any()


@pytest.mark.parametrize("depths", [[0, 0], [1], [1, 1, 1]])
def test_blocks_are_not_taken_away(depths: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        deepen_vision(small_network(), depths)


def test_a_run_deepens_a_checkpoint_that_comes_back_as_deep(tmp_path: Path) -> None:
    data = write_boards(tmp_path / "data")
    Run(read_config(CONFIG, settings(data, tmp_path / "first"))).train()
    first = tmp_path / "first" / "checkpoint"
    kept = [setting for setting in settings(data, tmp_path / "second") if not setting.startswith("model.")]
    Run(read_config(CONFIG, [*kept, f"model={{checkpoint: {first}, vision_depths: [1, 2]}}"])).train()
    network, _, _ = load_checkpoint(tmp_path / "second" / "checkpoint")
    assert [len(blocks) for blocks in network.model.vision_tower.blocks] == [1, 2]
    assert network.model.vision_tower.blocks[0][0].spatial_block.ffn.fc2.weight.any()
    with pytest.raises(ConfigError, match="vision_depths"):
        Run(read_config(CONFIG, [*kept, f"model={{checkpoint: {first}, vision_depths: [0, 0]}}"]))
