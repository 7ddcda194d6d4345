from pathlib import Path

import pytest

from tests.training.boards import write_boards
from tests.training.small_run import CONFIG, settings
from training.config import read_config
from training.learning.batches import Batch, Draws
from training.train import Run


@pytest.mark.parametrize(("size", "share", "asked"), [(4, 0.5, 2), (2, 0.25, 1), (1, 0.125, 1), (4, 0.0, 0)])
def test_however_small_a_batch_is_the_decoder_learns_from_some_of_it(
    size: int, share: float, asked: int, tmp_path: Path
) -> None:
    small = [f"train.batch_size={size}", f"train.generative_share={share}"]
    run = Run(read_config(CONFIG, [*settings(write_boards(tmp_path / "data"), tmp_path / "run"), *small]))
    batch = run.batches.draw(run.schedule.stage(0), Draws.of(0, 0, 0))
    assert isinstance(batch, Batch)
    assert len(batch.image) == size
    assert (0 if batch.generative is None else len(batch.generative.labels)) == asked
