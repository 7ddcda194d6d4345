"""What a checkpoint is judged by, and what is refused."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import training.calibrate
import training.evaluate
import training.spread
from export.contract.boxes import Detections
from export.contract.defects import BARE_BOARD, Defect
from training.data.coco import write_coco
from training.data.dataset import Dataset, Sample
from training.evaluate import evaluate_generative
from training.network.checkpoint import load_checkpoint
from training.reading.generate import Answer

COMMANDS = {
    "evaluate": (training.evaluate.main, ("--reading", "grounding")),
    "calibrate": (training.calibrate.main, ("--max-false-calls", "0.1")),
    "spread": (training.spread.main, ()),
}


def board(path: Path) -> Sample:
    """A noisy picture of six tiles, with one box."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Sample(path, (300, 200), np.array([[10, 10, 40, 40]], np.float32), np.zeros(1, np.int64), ((),), ((),))


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> int:
    command, own = COMMANDS[name]
    monkeypatch.setattr(sys, "argv", [name, *own, *arguments])
    try:
        return command()
    except SystemExit as end:  # argparse's
        return int(str(end.code))


def test_a_large_board_is_asked_about_bit_by_bit(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tiles and five prompts: whatever is asked at once, each answer belongs to its tile and its prompt."""
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    dataset = Dataset(BARE_BOARD[:5], (board(tmp_path / "board.png"),))
    at_once: list[int] = []

    def answer(_: object, __: object, features: torch.Tensor, prompts: Sequence[str]) -> list[Answer]:
        """A box and a score that only this tile and this prompt have."""
        at_once.append(len(prompts))
        assert len(features) == len(prompts)
        answers = []
        for own, prompt in zip(features, prompts, strict=True):
            corner = float(own.mean().sigmoid()) / 2
            box = np.array([[corner, corner, corner + 0.1, corner + 0.1]], np.float32)
            answers.append(Answer(["open"], box, np.array([0.5 + len(prompt) / 100], np.float32)))
        return answers

    monkeypatch.setattr(training.evaluate, "generate", answer)
    monkeypatch.setattr(training.evaluate, "judge", lambda _, found: found)

    def read(answers_per_batch: int) -> Detections:
        monkeypatch.setattr(training.evaluate, "ANSWERS_PER_BATCH", answers_per_batch)
        (found,) = evaluate_generative(network, tokenizer, dataset, "en")
        return found

    together, apart = read(64), read(4)
    assert at_once == [30, 4, 4, 4, 4, 4, 4, 4, 2]
    assert len(set(together.class_ids.tolist())) == 5
    for one, other in zip(vars(together).values(), vars(apart).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", COMMANDS)
def test_names_that_are_too_long_for_a_prompt_are_refused(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    long = Defect("dent", ("z" * 200,), ("凹痕",), (), ())
    samples = tuple(board(tmp_path / f"{number}.png") for number in range(3))  # as many as calibration asks for
    write_coco(Dataset((long,), samples), tmp_path / "long.json", {})
    assert run(monkeypatch, name, "--checkpoint", str(tiny_checkpoint), "--data", str(tmp_path / "long.json")) == 2
    assert re.search(r"a prompt has 128 tokens at most, which .*zzz.* \(2\d\d tokens\)", capsys.readouterr().err)


@pytest.mark.parametrize("name", COMMANDS)
def test_pictures_without_a_box_are_nothing_to_judge_by(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    Image.new("RGB", (150, 150)).save(tmp_path / "good.png")
    good = Sample(tmp_path / "good.png", (150, 150), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
    write_coco(Dataset(BARE_BOARD, (good,)), tmp_path / "good.json", {})
    assert run(monkeypatch, name, "--checkpoint", str(tiny_checkpoint), "--data", str(tmp_path / "good.json")) == 2
    assert "good.json: no picture shows a defect" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "8"])
@pytest.mark.parametrize("name", ["evaluate", "calibrate"])
def test_a_magnification_that_the_service_refuses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    arguments = ("--checkpoint", str(tmp_path), "--data", str(tmp_path), "--magnification", "1", value)
    assert run(monkeypatch, name, *arguments) == 2
    assert f"'{value}' is not a number from 0.25 to 4" in capsys.readouterr().err
