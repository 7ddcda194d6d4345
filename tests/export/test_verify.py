"""The gate on labelled pictures, with the shipped checkpoint; PyTorch stands for an engine that loses nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.boards.labelled import Boards, read_boards
from export.contract.tensors import DETECTOR
from export.gate.limits import read_limits
from export.gate.verify import GateError, Reference, _compare_map
from export.graphs.checkpoint import load_checkpoint
from export.runtime.engine import Arrays
from tests.conftest import BOARD, CHECKPOINT

UNKNOWN = ("qwx", "zzyv", "plomb", "vrk", "jjh", "ooub")


class Dimmed:
    """PyTorch's own answers, the scores times a factor."""

    def __init__(self, reference: Reference, factor: float) -> None:
        self.answer, self.factor = reference.run(DETECTOR), np.float32(factor)

    def run(self, inputs: Arrays) -> dict[str, Any]:
        outputs = self.answer(inputs)
        return outputs | {"SCORES": self.factor * outputs["SCORES"]}


def compare(boards: Boards, factor: float, checkpoint: Path = CHECKPOINT) -> tuple[dict[str, Any], list[str]]:
    reference = Reference(load_checkpoint(checkpoint), boards)
    faults: list[str] = []
    return _compare_map(reference, Dimmed(reference, factor), read_limits()["int8"], faults), faults


@pytest.fixture(scope="module")
def boards() -> Boards:
    return read_boards(BOARD.with_suffix(".json"))


def test_an_engine_that_finds_nothing_is_refused_and_pytorch_itself_is_not(boards: Boards) -> None:
    assert compare(boards, factor=1)[1] == []
    (fault,) = compare(boards, factor=0)[1]
    assert "mAP@0.5 is 0.0000, PyTorch's" in fault


def test_pictures_on_which_pytorch_finds_nothing_either_judge_no_engine(boards: Boards, tmp_path: Path) -> None:
    white = tmp_path / "white.png"
    Image.new("RGB", (640, 640), "white").save(white)
    blank = replace(boards, boards=(replace(boards.boards[0], path=white),))
    with pytest.raises(GateError, match=str(white)):
        compare(blank, factor=0)


def test_class_names_that_mean_nothing_to_the_network_judge_no_engine(boards: Boards, tiny_checkpoint: Path) -> None:
    """No name means anything to this one, whose weights are random."""
    with pytest.raises(GateError, match=", ".join(UNKNOWN)):
        compare(replace(boards, class_names=UNKNOWN), factor=1, checkpoint=tiny_checkpoint)
