import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.contract.defects import Defect
from tests.conftest import ROOT, run_module
from tests.training.boards import write_boards
from tests.training.small_run import CONFIG, PICTURES, settings
from training.config import read_config
from training.data.coco import write_coco
from training.data.dataset import Dataset, Sample
from training.network.checkpoint import CheckpointError, load_checkpoint
from training.reading.detect import embed_prompts
from training.train import Run


def command(data: Path, out: Path, steps: int = 4) -> list[str]:
    """A run of a few steps of a smaller network, half of them for the decoder only."""
    words = (word for value in settings(data, out, steps) for word in ("--set", value))
    return ["training.train", "--config", str(CONFIG), *words]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train")
    result = run_module(*command(write_boards(root / "data"), root / "run"))
    assert result.returncode == 0, result.stderr
    return root


def test_a_run_leaves_a_checkpoint_that_needs_nothing_else(trained: Path) -> None:
    network, tokenizer, manifest = load_checkpoint(trained / "run" / "checkpoint")
    assert embed_prompts(network, tokenizer, ["断路", "find open circuits"]).shape == (2, 32)
    assert manifest["data"]["holdout_groups"] == ["22222"]
    assert (manifest["data"]["images"], manifest["data"]["holdout_images"]) == (3, 3)
    assert manifest["training"]["steps"] == 4
    assert manifest["training"]["config"]["train"]["seed"] == 0
    assert 0 <= manifest["metrics"]["holdout"]["map50"] <= 1
    entries = [json.loads(line) for line in (trained / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "holdout" in entry] == [2, 4]


def test_a_killed_run_goes_on_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", *command(trained / "data", tmp_path / "run")]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    state = tmp_path / "run" / "state.pt"
    while not state.exists() and process.poll() is None:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL  # and not at its end already
    result = run_module(*command(trained / "data", tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    uninterrupted = torch.load(trained / "run" / "state.pt", weights_only=True)
    resumed = torch.load(state, weights_only=True)
    assert resumed["step"] == uninterrupted["step"] == 4
    for name, weight in uninterrupted["network"].items():
        assert torch.equal(weight, resumed["network"][name]), name


def test_a_decoder_stage_leaves_everything_else_as_it_is(trained: Path, tmp_path: Path) -> None:
    joint = "train.stages=[{share: 1, mosaic: 0.5}]"
    result = run_module(*command(trained / "data", tmp_path / "run", steps=2), "--set", joint)
    assert result.returncode == 0, result.stderr
    before = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["average"]
    after = torch.load(trained / "run" / "state.pt", weights_only=True)["average"]
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed
    assert all(name.startswith("model.language_model.decoder.") for name in changed)
    assert not any("embed_tokens" in name for name in changed)


def test_a_run_is_not_continued_with_another_configuration(trained: Path) -> None:
    result = run_module(*command(trained / "data", trained / "run", steps=6))
    assert result.returncode == 2
    assert "another configuration" in result.stderr


def test_a_run_is_not_continued_with_other_labels_and_one_at_its_end_names_its_checkpoint(
    trained: Path, tmp_path: Path
) -> None:
    data = write_boards(tmp_path / "data")
    arguments = command(data, tmp_path / "run", steps=2)
    assert run_module(*arguments).returncode == 0
    again = run_module(*arguments)
    assert again.returncode == 0
    assert str(tmp_path / "run" / "checkpoint") in again.stderr
    file = next(file for file in sorted((data / "annotations").iterdir()) if file.read_text().strip())
    x1, *rest = file.read_text().split(" ", 1)
    file.write_text(" ".join([str(int(x1) + 1), *rest]))
    other = run_module(*arguments)
    assert other.returncode == 2
    assert "labels" in other.stderr


def test_a_run_that_diverges_ends_and_says_what_to_lower(trained: Path, tmp_path: Path) -> None:
    result = run_module(*command(trained / "data", tmp_path / "run"), "--set", "train.lr=1.0e+30")
    assert result.returncode == 1
    assert "train.lr" in result.stderr
    assert "Traceback" not in result.stderr
    assert "another 'out'" in result.stderr  # with its own, other rates are refused


def test_a_source_that_counts_twice_is_drawn_twice_as_often_and_listed_once(trained: Path, tmp_path: Path) -> None:
    data, out = trained / "data", tmp_path / "run"
    twice = f"data.sources=[{{path: {data}, repeat: 2}}]"
    run = Run(read_config(CONFIG, [*settings(data, out, 1), twice, "train.stages=[{share: 1, mosaic: 0}]"]))
    assert len(run.dataset.samples) == 2 * PICTURES
    run.train()
    assert load_checkpoint(out / "checkpoint")[2]["data"]["images"] == PICTURES


def test_an_unknown_holdout_group_is_named(trained: Path, tmp_path: Path) -> None:
    arguments = command(trained / "data", tmp_path / "run")
    result = run_module(*arguments, "--set", "data.holdout_groups=['99999']")
    assert result.returncode == 2
    assert "99999" in result.stderr


def write_described_pictures(root: Path) -> Path:
    """Colour pictures of a plant's own defect: two with a box and a sentence, one with a sparse label, one good."""
    category = Defect("corrosion", ("corrosion",), ("腐蚀",), ("green crust on copper",), ())
    rng = np.random.default_rng(0)
    samples = []
    for index in range(4):
        path = root / f"{index}.png"
        Image.fromarray(rng.integers(0, 255, (150, 200, 3), dtype=np.uint8)).save(path)
        boxes = np.array([[40, 40, 90, 80]], np.float32)[: 1 if index in (0, 3) else 0]
        samples.append(
            Sample(
                path=path,
                resolution_wh=(200, 150),
                boxes_xyxy=boxes,
                class_ids=np.zeros(len(boxes), np.int64),
                polygons=((),) * len(boxes),
                descriptions=(("a green spot beside the pad",),) * len(boxes),
                image_descriptions=("焊盘旁有绿色斑点",) if index == 1 else (),
                group="judged" if index == 3 else "learned",
            )
        )
    write_coco(Dataset((category,), tuple(samples)), root / "own.json", {})
    return root / "own.json"


def test_a_run_learns_from_a_coco_file_with_sentences_and_sparse_labels(tmp_path: Path) -> None:
    file = write_described_pictures(tmp_path)
    settings = [
        "data.holdout_groups=[judged]",
        "crops.template_share=0",
        "crops.camera={illumination: 0.5, colour: 0.5, blur: 0.5, noise: 0.5, compression: 0.5}",
        "train.stages=[{share: 1, mosaic: 0.3}]",
        "train.validate_every=20",
    ]
    overrides = [word for value in settings for word in ("--set", value)]
    result = run_module(*command(file, tmp_path / "run", steps=20), *overrides)
    assert result.returncode == 0, result.stderr
    _, tokenizer, manifest = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert manifest["data"]["categories"] == ["corrosion"]
    assert manifest["defects"] == []  # none that the catalog knows: it is asked for by words
    assert tokenizer.decode(tokenizer.encode("焊盘旁有绿色斑点").ids) == "焊盘旁有绿色斑点"
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (losses,) = [entry["losses"] for entry in entries if "losses" in entry]
    assert all(value > 0 for value in losses.values())


def test_evaluate_ends_with_one_json_object(trained: Path) -> None:
    checkpoint = trained / "run" / "checkpoint"
    data = trained / "data"
    (data / "one.txt").write_text((data / "val.txt").read_text().split()[0] + "\n")  # answers of 160 tokens take long
    result = run_module("training.evaluate", "--checkpoint", str(checkpoint), "--data", str(data), "--split", "one")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    for reading in ("grounding", "generative"):
        for language in ("en", "zh"):
            figures = report[reading][language]
            assert set(figures) == {"map50", "map50_95", "ap50", "best_f1_iou33", "score_threshold"}
            assert len(figures["ap50"]) == 6


@pytest.mark.parametrize(
    ("max_drop", "status"), [("0", 0), ("-0.01", 1), ("nan", 1)]
)  # -0.01: it has to be better by so much
def test_evaluate_refuses_what_finds_less_than_a_reference(trained: Path, max_drop: str, status: int) -> None:
    checkpoint, data = str(trained / "run" / "checkpoint"), str(trained / "data")
    against = ("--reading", "grounding", "--reference", checkpoint, f"--max-drop={max_drop}")
    result = run_module("training.evaluate", "--checkpoint", checkpoint, "--data", data, *against)
    assert result.returncode == status, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["reference"] == report["grounding"]
    assert report["drop"] == {"en": 0, "zh": 0}


@pytest.mark.parametrize("options", [["--max-drop=0.02"], ["--reading=outlines", "--reference=C"]])
def test_evaluate_refuses_a_comparison_that_would_compare_nothing(options: list[str]) -> None:
    result = run_module("training.evaluate", "--checkpoint", "C", "--data", "D", *options)
    assert result.returncode == 2
    assert "--reference" in result.stderr


def test_evaluate_refuses_pictures_that_show_no_defect(trained: Path, tmp_path: Path) -> None:
    Image.new("RGB", (150, 150)).save(tmp_path / "good.png")
    nothing = Sample(tmp_path / "good.png", (150, 150), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
    write_coco(Dataset((Defect("open", ("open",), ("断路",), (), ()),), (nothing,)), tmp_path / "good.json", {})
    checkpoint = str(trained / "run" / "checkpoint")
    result = run_module("training.evaluate", "--checkpoint", checkpoint, "--data", str(tmp_path / "good.json"))
    assert result.returncode == 2
    assert "good.json" in result.stderr


def test_load_checkpoint_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(tmp_path)
