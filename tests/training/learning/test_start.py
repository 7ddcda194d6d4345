"""What a run is allowed to learn from and to be judged by."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.boards import write_boards
from training.config import DataConfig, DatasetConfig, SourceConfig
from training.data.coco import write_coco
from training.data.dataset import Dataset, DatasetError
from training.data.deeppcb import read_deeppcb
from training.learning.start import read_datasets

NOTHING_REPLAYED = Dataset((), ())


def test_the_same_pictures_cannot_be_learned_and_judge(tmp_path: Path) -> None:
    source = SourceConfig(path=write_boards(tmp_path / "data"))
    with pytest.raises(DatasetError, match="11111"):
        read_datasets(DataConfig(sources=(source,), holdout=(DatasetConfig(path=source.path),)), NOTHING_REPLAYED)


def test_pictures_of_one_board_cannot_be_learned_and_judge(tmp_path: Path) -> None:
    source = SourceConfig(path=write_boards(tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(DatasetError, match="this run learns"):
        read_datasets(DataConfig(sources=(source,), holdout=(DatasetConfig(path=tmp_path / "copy"),)), NOTHING_REPLAYED)


def test_pictures_without_a_defect_cannot_judge(tmp_path: Path) -> None:
    source = SourceConfig(path=write_boards(tmp_path / "data"))
    boards = read_deeppcb(tmp_path / "data", "train")
    good = [
        replace(
            sample,
            boxes_xyxy=np.zeros((0, 4), np.float32),
            class_ids=np.zeros(0, np.int64),
            polygons=(),
            descriptions=(),
            group="good",
        )
        for sample in boards.samples
    ]
    write_coco(Dataset(boards.categories, tuple(good)), tmp_path / "good.json", {})
    with pytest.raises(DatasetError, match="no picture that judges"):
        read_datasets(
            DataConfig(sources=(source,), holdout=(DatasetConfig(path=tmp_path / "good.json"),)), NOTHING_REPLAYED
        )


def test_a_source_that_is_repeated_is_learned_as_often_and_judges_once(tmp_path: Path) -> None:
    boards = write_boards(tmp_path / "data")
    paths: dict[int, tuple[list[Path], list[Path]]] = {}
    for repeat in (1, 3):
        data = DataConfig(sources=(SourceConfig(path=boards, repeat=repeat),), holdout_groups=("22222",))
        learned, judging, _ = read_datasets(data, NOTHING_REPLAYED)
        paths[repeat] = sorted(sample.path for sample in learned.samples), [sample.path for sample in judging.samples]
    once, thrice = paths[1], paths[3]
    assert thrice[0] == sorted(once[0] * 3)
    assert thrice[1] == once[1]
