"""What a run is allowed to learn from and to be judged by."""

import random
import shutil
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.boards import write_boards
from tests.training.small_run import CONFIG, settings
from training.config import DataConfig, DatasetConfig, SourceConfig, read_config
from training.data.coco import write_coco
from training.data.dataset import Dataset, DatasetError
from training.data.deeppcb import read_deeppcb
from training.data.source import read_judging
from training.learning.replay import ReplayBuffer
from training.learning.start import read_datasets
from training.train import Run

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


def without_groups(boards: Path, file: Path) -> Dataset:
    """The boards of a folder, of which nobody knows where they come from, also as a COCO file."""
    dataset = read_deeppcb(boards, "train")
    dataset = Dataset(dataset.categories, tuple(replace(sample, group="") for sample in dataset.samples))
    write_coco(dataset, file, {})
    return dataset


def test_pictures_that_an_earlier_run_has_copied_cannot_judge(tmp_path: Path) -> None:
    judging = without_groups(write_boards(tmp_path / "judging", seed=1), tmp_path / "judging.json")
    buffer = ReplayBuffer()
    buffer.update(judging)
    buffer.save(tmp_path / "replay")
    replayed = ReplayBuffer.load(tmp_path / "replay", 10).as_dataset()
    source = SourceConfig(path=write_boards(tmp_path / "data"))
    with pytest.raises(DatasetError, match="an earlier run has learned"):
        read_datasets(DataConfig(sources=(source,), holdout=(DatasetConfig(path=tmp_path / "judging.json"),)), replayed)


def test_a_picture_by_another_path_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_groups(write_boards(tmp_path / "data"), tmp_path / "data.json")
    monkeypatch.chdir(tmp_path)
    data = DataConfig(sources=(SourceConfig(path=tmp_path / "data.json"),), holdout=(DatasetConfig(path="data.json"),))
    with pytest.raises(DatasetError, match="this run learns"):
        read_datasets(data, NOTHING_REPLAYED)


def test_pictures_with_sparse_labels_do_not_judge(tmp_path: Path) -> None:
    judging = without_groups(write_boards(tmp_path / "judging", seed=1), tmp_path / "judging.json")
    sparse = replace(judging.samples[0], image_descriptions=("a scratch somewhere",))
    write_coco(Dataset(judging.categories, (sparse, *judging.samples[1:])), tmp_path / "judging.json", {})
    source = SourceConfig(path=write_boards(tmp_path / "data"))
    data = DataConfig(sources=(source,), holdout=(DatasetConfig(path=tmp_path / "judging.json"),))
    _, judges, _ = read_datasets(data, NOTHING_REPLAYED)
    assert len(judges.samples) == len(judging.samples) - 1
    assert len(read_judging(tmp_path / "judging.json", "val").samples) == len(judging.samples) - 1


LONG = "".join(random.Random(0).choices(string.ascii_lowercase, k=2000))


def run_on(dataset: Dataset, folder: Path) -> Run:
    write_coco(dataset, folder / "own.json", {})
    return Run(read_config(CONFIG, [*settings(folder / "own.json", folder / "run"), "model.text_vocab=300"]))


def test_a_sentence_too_long_for_a_prompt_is_told_and_holds_nothing_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boards = read_deeppcb(write_boards(tmp_path / "data"), "train")
    texts = [f"{kind} {LONG}" for kind in ("class", "defect", "picture")]
    category, *classes = boards.categories
    described = replace(category, descriptions_en=(texts[0],))
    judging = [sample for sample in boards.samples if sample.group == "22222"]
    first, second, *others = [sample for sample in boards.samples if sample.group != "22222"]
    first = replace(first, descriptions=((texts[1],),) * len(first.class_ids))
    second = replace(second, image_descriptions=(texts[2],))
    run = run_on(Dataset((described, *classes), (first, second, *others, *judging)), tmp_path)
    told = capsys.readouterr().err
    assert all(text in told for text in texts)
    run.train()
    assert (tmp_path / "run" / "checkpoint").is_dir()


def test_a_name_too_long_for_a_prompt_is_refused(tmp_path: Path) -> None:
    boards = read_deeppcb(write_boards(tmp_path / "data"), "train")
    category, *classes = boards.categories
    called = replace(category, names_en=(*category.names_en, LONG))
    with pytest.raises(DatasetError, match=rf"128 tokens.*{LONG[:60]}"):
        run_on(Dataset((called, *classes), boards.samples), tmp_path)


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
