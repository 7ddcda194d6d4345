from pathlib import Path

import pytest

from tests.training.boards import write_boards
from training.deeppcb import DatasetError, read_split


def test_read_split_gives_boxes_and_groups(tmp_path: Path) -> None:
    boards = read_split(write_boards(tmp_path), "train")
    assert len(boards) == 6
    assert {board.group for board in boards} == {"11111", "22222"}
    first = (tmp_path / "annotations" / f"{boards[0].stem}.txt").read_text().split()[:5]
    assert [*boards[0].boxes_xyxy[0].tolist(), boards[0].class_ids[0] + 1] == [int(field) for field in first]


def test_read_split_names_every_fault_at_once(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / "images" / "11111001.jpg").unlink()
    (tmp_path / "annotations" / "22222000.txt").write_text("1 2 3 4 1\n10 10 5 20 1\n1 1 5 5 9\nnonsense\n")
    with pytest.raises(DatasetError) as error:
        read_split(tmp_path, "train")
    for place in ("11111001.jpg", "22222000.txt:2", "22222000.txt:3", "22222000.txt:4"):
        assert place in str(error.value)
    assert "22222000.txt:1" not in str(error.value)


def test_read_split_names_a_missing_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"test\.txt"):
        read_split(tmp_path, "test")
