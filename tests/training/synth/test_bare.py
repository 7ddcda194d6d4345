from pathlib import Path

import numpy as np
import pytest

from training.config import CropConfig
from training.crops.sampler import CropSampler, is_binarised
from training.data.source import read_dataset
from training.synth.bare import draw_bare_board
from training.synth.coco import ANNOTATIONS, write_dataset
from training.synth.picture import MEAN_DEFECTS

SIZE = 320


def test_a_board_is_its_seed_and_index_and_nothing_else() -> None:
    np.testing.assert_array_equal(draw_bare_board(1, 4, SIZE), draw_bare_board(1, 4, SIZE))
    assert (draw_bare_board(1, 4, SIZE) != draw_bare_board(2, 4, SIZE)).any()


@pytest.mark.parametrize("index", range(6))
def test_a_board_has_copper_and_space_and_nothing_between(index: int) -> None:
    board = draw_bare_board(0, index, SIZE)
    assert board.shape == (SIZE, SIZE)
    assert set(np.unique(board)) == {0, 255}
    assert 0.03 < (board == 0).mean() < 0.97


def test_all_bare_board_defects_can_be_drawn_into_written_boards(tmp_path: Path) -> None:
    write_dataset(tmp_path / "bare", 4, seed=3, size=SIZE, kind="bare", mean_defects=MEAN_DEFECTS, workers=1)
    dataset = read_dataset(tmp_path / "bare" / ANNOTATIONS, "train")
    assert all(not len(sample.class_ids) for sample in dataset.samples)
    config = CropConfig(
        near_defect=0.5,
        scale_jitter=1.2,
        aspect_jitter=1,
        template_share=1,
        drawn_defects=4,
        threshold_jitter=0,
        level_jitter=0,
        min_visible=0.5,
        cache_mb=64,
    )
    sampler = CropSampler(dataset, config)
    assert all(is_binarised(sampler.store.read(sample.path)) for sample in dataset.samples)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([sampler.draw(160, False, rng).class_ids for _ in range(30)])
    assert {dataset.categories[index].id for index in set(drawn.tolist())} == {
        "open",
        "short",
        "mousebite",
        "spur",
        "spurious_copper",
        "pin_hole",
    }
