import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tests.training.networks import LONGEST_PROMPT, SIDE, small_network
from training.config import ConfigError, StageConfig
from training.learning.resolution import check_input_resolutions
from training.network.modeling_florence2_grounding import Florence2ForGrounding


@pytest.fixture(scope="module")
def network() -> Florence2ForGrounding:
    return small_network()


def plane(side: int) -> Tensor:
    """A function of the place in the tile that is linear in each direction, at the centres of cells (side, side)."""
    steps = (torch.arange(side) + 0.5) / side
    return 2 * steps[:, None] - 3 * steps[None]


def test_a_smaller_grid_has_the_positions_of_the_same_places(network: Florence2ForGrounding) -> None:
    positions = network.model.multi_modal_projector.image_position_embed
    steps = (torch.arange(SIDE) + 0.5) / SIDE
    with torch.no_grad():
        positions.row_embeddings.weight[:SIDE] = 2 * steps[:, None]
        positions.column_embeddings.weight[:SIDE] = -3 * steps[:, None]
    halves = network.config.vision_config.embed_dim[-1] // 2
    for side in (SIDE, SIDE // 2):
        columns, rows = positions(torch.zeros(1, 2 * halves, side, side))[0].split(halves)
        torch.testing.assert_close((rows + columns)[0], plane(side))


def test_a_token_of_a_smaller_tile_stands_where_its_place_is(network: Florence2ForGrounding) -> None:
    """BART's positions, its prompt's included, are those of the places in the whole tile."""
    table = network.model.language_model.encoder.embed_positions
    whole, small, prompt = SIDE * SIDE + 1, 4 * 4 + 1, 5
    learned = torch.cat([torch.tensor([7.0]), plane(SIDE).flatten(), 100 + torch.arange(LONGEST_PROMPT)])
    with torch.no_grad():
        table.weight[table.offset :] = learned[:, None]
    embeddings = torch.zeros(2, small + prompt, 32)
    given = table(embeddings)  # what the encoder adds by itself
    expected = torch.cat([learned[:1], plane(4).flatten(), learned[whole : whole + prompt]])
    torch.testing.assert_close((network.place(embeddings, small) + given)[1, :, 0], expected)


def test_a_whole_tile_is_left_as_it_is(network: Florence2ForGrounding) -> None:
    embeddings = torch.rand(1, SIDE * SIDE + 1 + 3, 32)
    assert network.place(embeddings, SIDE * SIDE + 1) is embeddings
    features = torch.rand(2, 16, SIDE, SIDE)
    positions = network.model.multi_modal_projector.image_position_embed
    assert torch.equal(positions(features), super(type(positions), positions).forward(features))


def test_both_position_tables_learn_from_smaller_tiles(network: Florence2ForGrounding) -> None:
    tiles = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    states = network.encode_image(network.image_features(network.normalise(tiles)))
    assert states.shape == (2, 16, 32)
    F.mse_loss(states, torch.randn_like(states)).backward()
    rows = network.model.multi_modal_projector.image_position_embed.row_embeddings.weight.grad
    cells = network.model.language_model.encoder.embed_positions.weight.grad
    offset = network.model.language_model.encoder.embed_positions.offset
    assert rows is not None
    assert (rows[:SIDE] != 0).any(1).all()
    assert not rows[SIDE:].any()
    assert (cells[offset + 1 : offset + 1 + SIDE * SIDE] != 0).any(1).all()
    network.zero_grad()


def stages(*resolutions: int | None) -> list[StageConfig]:
    return [StageConfig(share=0.5, mosaic=0, input_resolution=resolution) for resolution in resolutions]


def test_resolutions_that_fill_no_window_are_accepted(network: Florence2ForGrounding) -> None:
    check_input_resolutions(stages(64, 128, None), network.config.vision_config, 128)


def test_every_unusable_resolution_is_named_with_the_usable_ones(network: Florence2ForGrounding) -> None:
    for one, other in itertools.pairwise((72, 96, 192, 8)):  # no multiple; a window half empty; beyond the tile
        with pytest.raises(ConfigError, match=rf"\[0\].*{one}.*\[1\].*{other}.*: 64, 128$"):
            check_input_resolutions(stages(one, other), network.config.vision_config, 128)


def test_a_tile_that_fills_windows_itself_allows_as_much(network: Florence2ForGrounding) -> None:
    check_input_resolutions(stages(32, 96), network.config.vision_config, 112)
