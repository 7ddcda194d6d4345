"""The figures of every precision on a small network: each engine has its row, and what cannot run here is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export import report as report_module
from export.boards.calibration import detector_rows
from export.boards.labelled import Board, Boards
from export.engines.targets import METHODS
from export.gate.verify import Reference, padded
from export.graphs.checkpoint import load_checkpoint
from export.report import PYTORCH, _evenly, main, report
from export.report_page import as_markdown, draw
from tests.conftest import BOARD
from tests.export.test_build import label_many_classes
from tests.export.test_tensorrt_build import without_tensorrt

ENGINES = {PYTORCH, "onnxruntime fp32", *(f"onnxruntime int8 {method}" for method in METHODS["onnxruntime", "int8"])}


@pytest.fixture(scope="module")
def content(tiny_checkpoint: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(tiny_checkpoint)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    rows = detector_rows(tiles, padded(Reference(checkpoint).embeddings))
    box = np.array([[10, 10, 40, 40]], np.float32)
    boards = Boards(("open",), (Board(BOARD, "", box, np.array([0])),))
    return report(
        checkpoint, boards, rows, rounds=2, targets=("onnxruntime", "tensorrt"), batches=(1, 2), threads=(1, 2)
    )


def test_report_has_a_row_for_every_engine_and_number_of_threads(content: dict[str, Any]) -> None:
    rows = [(entry["name"], entry["threads"]) for entry in content["engines"]]
    assert sorted(rows) == sorted((name, threads) for name in ENGINES for threads in (1, 2)), content["missing"]
    for entry in content["engines"]:
        low, high = entry["latency_ms_2_quarters"]
        assert 0 < low <= entry["latency_ms_2"] <= high
        assert entry["tiles_per_second"] == pytest.approx(2000 / entry["latency_ms_2"], rel=0.05)
        assert entry["size_mb"] > 0
        assert 0 <= entry["map50"] <= 1


@without_tensorrt
def test_report_names_what_cannot_run_here(content: dict[str, Any]) -> None:
    assert {name.split()[1] for name in content["missing"]} == {"fp32", "fp16", "bf16", "int8", "fp8"}
    lines = [line for line in as_markdown(content).splitlines() if line.startswith("Not run")]
    assert len(lines) == len(set(content["missing"].values())), "one for each reason"
    assert all(any(name in line for line in lines) for name in content["missing"])


def test_markdown_has_the_figures_and_leaves_out_what_was_not_judged(content: dict[str, Any]) -> None:
    table = as_markdown(content)
    for entry in content["engines"]:
        assert f"| {entry['name']} | {entry['threads']} | {entry['size_mb']:g} | {entry['latency_ms_1']:g} " in table
    assert "mAP@0.5 |" in table
    assert "mAP@0.5 |" not in as_markdown(content | {"images": 0})


def test_files_of_a_checkpoint_whose_name_has_a_point_keep_the_whole_name(
    content: dict[str, Any], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"name": "line_2.5"}))
    arguments = ["--checkpoint", checkpoint, "--calibration", BOARD.parent, "--tiles", 1, "--batches", 1]
    arguments += ["--out", tmp_path / "out"]
    monkeypatch.setattr("sys.argv", ["export.report", *map(str, arguments)])
    monkeypatch.setattr(report_module, "report", lambda *_: content)
    assert report_module.main() == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"engine_precision_line_2.5.{suffix}" for suffix in ("json", "md", "png")
    }


def test_labels_of_more_classes_than_can_be_asked_for_are_named_before_anything_is_timed(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = label_many_classes(tmp_path)
    arguments = ["--checkpoint", tiny_checkpoint, "--calibration", BOARD.parent, "--tiles", 1, "--batches", 1]
    arguments += ["--labelled", labelled, "--out", tmp_path / "out"]
    monkeypatch.setattr("sys.argv", ["export.report", *map(str, arguments)])
    monkeypatch.setattr(report_module, "report", lambda *_: pytest.fail("engines are timed"))
    assert report_module.main() == 2
    assert f"{labelled}: categories: 65" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 100, 125, 249, 250, 400])
def test_pictures_are_chosen_evenly_and_no_more_than_asked_for(count: int) -> None:
    boxes, class_ids = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    boards = tuple(Board(Path(str(index)), "", boxes, class_ids) for index in range(250))
    places = [int(board.path.name) for board in _evenly(Boards(("open",), boards), count).boards]
    assert len(places) == min(count, 250)
    steps = np.diff([*places, 250])
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--tiles 4 --batches 1 8", "4 of --tiles"),
        ("--batches 8 1", "--batches is 8 1"),
        ("--batches 1 1", "--batches is 1 1"),
        ("--rounds 0", "--rounds: 0"),
        ("--tiles 0", "--tiles: 0"),
        ("--images -5", "--images: -5"),
        ("--threads 0", "--threads: 0"),
    ],
)
def test_numbers_that_would_give_wrong_figures_are_refused(
    arguments: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["export.report", "--checkpoint", "nowhere", *arguments.split()])
    with pytest.raises(SystemExit):
        main()
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("images", [0, 1])
def test_plot_is_a_picture(content: dict[str, Any], images: int, tmp_path: Path) -> None:
    draw(content | {"images": images}, tmp_path / "plot.png")
    assert np.asarray(Image.open(tmp_path / "plot.png").convert("L")).std() > 1
