import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.contract.defects import BARE_BOARD
from export.graphs.checkpoint import load_checkpoint as load_for_export
from tests.conftest import CHECKPOINT
from tests.data.draw_board import DEFECTS, SIZE, draw
from tests.training.boards import write_boards
from training.calibrate import main
from training.calibrated import WEIGHTS, fold, write_calibrated
from training.calibration import Platt, split_boards
from training.data.source import read_dataset
from training.network.checkpoint import LOG, MANIFEST, load_checkpoint
from training.network.modeling_florence2_grounding import GroundingHead
from training.reported import merge_samples, read_samples


def write_drawn_boards(root: Path, count: int) -> Path:
    """Boards with defects that the shipped checkpoint finds, in DeepPCB's format."""
    for folder in ("images", "annotations"):
        (root / folder).mkdir(parents=True)
    stems = [f"33333{index:03d}" for index in range(count)]
    for index, stem in enumerate(stems):
        board = draw(index)
        board.image.save(root / "images" / f"{stem}.jpg", quality=95)
        lines = [
            " ".join(str(int(np.clip(side, 0, SIZE))) for side in box) + f" {DEFECTS.index(name) + 1}"
            for name, box in board.annotations
        ]
        (root / "annotations" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    (root / "val.txt").write_text("\n".join(stems) + "\n")
    return root


def run(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, data: Path, *arguments: str) -> int:
    command = ["calibrate", "--checkpoint", str(checkpoint), "--data", str(data), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    try:
        return main()
    except SystemExit as end:  # argparse's
        return int(str(end.code))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source checkpoint and its calibrated copy; the report and an original of the source lie beside them."""
    root = tmp_path_factory.mktemp("calibrate")
    source = shutil.copytree(CHECKPOINT, root / "source")
    manifest = json.loads((source / MANIFEST).read_text())
    manifest.pop("calibration", None)
    (source / MANIFEST).write_text(json.dumps(manifest))
    shutil.copytree(source, root / "original")
    data = write_drawn_boards(root / "data", 6)
    with pytest.MonkeyPatch.context() as monkeypatch, (root / "report.json").open("w") as report:
        monkeypatch.setattr(sys, "stdout", report)
        arguments = ("--max-false-calls", "1", "--confidence", "0.5", "--out", str(root / "out"))
        assert run(monkeypatch, source, data, *arguments) == 0
    return source, root / "out"


def test_the_command_reports_and_notes_thresholds_figures_and_counts(calibrated: tuple[Path, Path]) -> None:
    _, out = calibrated
    report = json.loads((out.parent / "report.json").read_text().splitlines()[-1])
    manifest = json.loads((out / MANIFEST).read_text())
    assert {"checkpoint": manifest["name"]} | manifest["calibration"] == report
    assert set(report["score_thresholds"]) == {defect.id for defect in BARE_BOARD}
    assert all(0 < threshold <= 1 for threshold in report["score_thresholds"].values())
    assert report["boards"] == {"fit": 1, "test": 2, "judging": 3}
    judging = report["judging"]
    assert judging["truths"] == 2 * 3 * 8
    assert judging["recall"] > 0.5
    assert judging["reported"] == sum(figures["reported"] for figures in judging["classes"].values())
    assert judging["false_call_rate"] == pytest.approx(judging["wrong"] / judging["reported"], abs=1e-4)
    assert 0 <= report["calibration_error"]["after"] <= 1


def test_nothing_but_the_manifest_and_two_weights_changes(calibrated: tuple[Path, Path]) -> None:
    source, out = calibrated
    assert contents(source) == contents(source.parent / "original")
    before, after = contents(source), contents(out)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {MANIFEST, WEIGHTS}
    weights, scaled = load_file(source / WEIGHTS), load_file(out / WEIGHTS)
    changed = {name for name in weights if not torch.equal(weights[name], scaled[name])}
    assert changed == {"grounding.match_scale", "grounding.match_bias"}
    assert {weight.dtype for weight in scaled.values()} == {torch.float16}


def test_the_written_checkpoint_gives_the_scaled_scores(calibrated: tuple[Path, Path]) -> None:
    source, out = calibrated
    network, _, _ = load_checkpoint(source)
    scaled, _, manifest = load_checkpoint(out)
    platt = Platt(manifest["calibration"]["scale"], manifest["calibration"]["bias"])
    rng = np.random.default_rng(0)
    tile = torch.from_numpy(rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8))
    prompts = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(1, 5, 192)).astype(np.float32)), dim=-1)
    with torch.inference_mode():
        boxes, scores = network.detect(tile, prompts)
        scaled_boxes, scaled_scores = scaled.detect(tile, prompts)
    assert float((scores - scaled_scores).abs().max()) > 1e-3
    np.testing.assert_allclose(scaled_scores.numpy(), platt.apply(scores.numpy()), atol=1e-5)
    torch.testing.assert_close(scaled_boxes, boxes)
    operating_point = json.loads((source / MANIFEST).read_text())["score_threshold"]
    assert manifest["score_threshold"] == pytest.approx(platt.apply(np.array([operating_point]))[0], abs=1e-4)


def test_export_takes_the_thresholds_of_a_calibration_and_one_for_all_without(calibrated: tuple[Path, Path]) -> None:
    source, out = calibrated
    manifest = json.loads((out / MANIFEST).read_text())
    everywhere = dict.fromkeys((*manifest["defects"], "default"), manifest["score_threshold"])
    expected = everywhere | manifest["calibration"]["score_thresholds"]  # of the classes that the boards show
    assert load_for_export(out).score_thresholds == expected
    plain = json.loads((source / MANIFEST).read_text())
    assert load_for_export(source).score_thresholds == dict.fromkeys(
        ["default", *plain["defects"]], plain["score_threshold"]
    )


def test_fold_scales_the_logits_of_the_head() -> None:
    torch.manual_seed(0)
    head = GroundingHead(16)
    states, prompts = torch.randn(2, 9, 16), torch.nn.functional.normalize(torch.randn(3, 16), dim=-1)
    before = head.match(states, prompts)
    platt = fold(head, Platt(2.87, 0.24))
    assert (platt.scale, platt.bias) == pytest.approx((2.87, 0.24), abs=0.01)  # halves near -13 are 0.008 apart
    torch.testing.assert_close(head.match(states, prompts), platt.scale * before + platt.bias)


def test_an_interrupted_writing_leaves_the_checkpoint_whole(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    before = contents(folder)
    calibration: dict[str, Any] = {"scale": 2.0, "bias": 0.5}

    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", broken)
        with pytest.raises(OSError, match="no space"):
            write_calibrated(folder, folder, GroundingHead(64), calibration)
    assert contents(folder) == before
    write_calibrated(folder, folder, GroundingHead(64), calibration)
    assert json.loads((folder / MANIFEST).read_text())["calibration"] == calibration
    assert (folder / LOG).read_bytes() == before[LOG]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_boards_are_looked_at_as_often_as_lines_will_ask(
    calibrated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = calibrated
    arguments = ("--max-false-calls", "1", "--confidence", "0.5", "--magnification", "1", "1.5")
    assert run(monkeypatch, source, source.parent / "data", *arguments, "--out", str(tmp_path / "twice")) == 0
    twice, once = json.loads(capsys.readouterr().out), json.loads((out / MANIFEST).read_text())["calibration"]
    assert (twice["magnification"], once["magnification"]) == ([1.0, 1.5], [1.0])
    # As many boxes as these looks have, read apart from the command and scaled as it says.
    network, tokenizer, _ = load_checkpoint(source)
    dataset = read_dataset(source.parent / "data", "val")
    scaling = Platt(twice["scale"], twice["bias"])
    looks = [
        [replace(look, scores=scaling.apply(look.scores).astype(np.float32)) for look in board]
        for board in read_samples(network, tokenizer, dataset, [1.0, 1.5])
    ]
    both, near = (merge_samples(dataset, [board[first:] for board in looks]) for first in (0, 1))
    assert sum(twice["boxes"].values()) == len(both) != len(near)


def test_a_network_that_finds_nothing_is_not_calibrated(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tiny_checkpoint)
    assert run(monkeypatch, tiny_checkpoint, write_boards(tmp_path / "data"), "--max-false-calls", "0.1") == 1
    assert "not calibrated" in capsys.readouterr().err
    assert contents(tiny_checkpoint) == before


def test_a_budget_that_the_boards_cannot_prove_leaves_the_checkpoint_alone(
    calibrated: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = calibrated
    assert run(monkeypatch, source, source.parent / "data", "--max-false-calls", "0.1") == 1
    assert "25 boards" in capsys.readouterr().err  # 1.1 ** 25 > 10 > 1.1 ** 24
    assert contents(source) == contents(source.parent / "original")


def test_thresholds_under_which_nothing_right_is_reported_are_no_calibration(
    calibrated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the test boards every label is of the class after its own, so that all certain boxes are wrong."""
    source, _ = calibrated
    data = write_drawn_boards(tmp_path / "data", 6)
    parts = split_boards([sample.group for sample in read_dataset(data, "val").samples], 0.5, 0)
    for index in parts.test:
        file = data / "annotations" / f"33333{index:03d}.txt"
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(" ".join([*row[:4], str(int(row[4]) % len(DEFECTS) + 1)]) + "\n" for row in rows))
    arguments = ("--max-false-calls", "0.5", "--confidence", "0.5")  # proven by two boards without boxes: 1.5 ** 2 > 2
    assert run(monkeypatch, source, data, *arguments) == 1
    assert "no right box on the 2 boards" in capsys.readouterr().err
    assert contents(source) == contents(source.parent / "original")


def test_a_folder_that_cannot_be_written_is_named(
    calibrated: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = calibrated
    out = source / MANIFEST / "out"  # below a file
    arguments = ("--max-false-calls", "1", "--confidence", "0.5", "--out", str(out))
    assert run(monkeypatch, source, source.parent / "data", *arguments) == 2
    assert str(out) in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("nan",), ("1.5",), ("0.1", "--confidence", "1"), ("0.1", "--seed", "x")])
def test_wrong_numbers_are_refused(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, tmp_path, "--max-false-calls", *arguments) == 2
    assert arguments[-1] in capsys.readouterr().err


def test_unusable_input_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_boards(tmp_path / "data", count=1)
    budget = ("--max-false-calls", "0.1")
    for checkpoint, arguments, named in (
        (tmp_path / "nowhere", (), "nowhere"),
        (tiny_checkpoint, ("--split", "test"), "test.txt"),
        (tiny_checkpoint, ("--out", str(data)), str(data)),
        (tiny_checkpoint, (), "1 board"),
    ):
        assert run(monkeypatch, checkpoint, data, *budget, *arguments) == 2
        assert named in capsys.readouterr().err
