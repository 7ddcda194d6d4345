import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from export.build import build
from export.contract.files import sha256_of
from export.graphs.checkpoint import load_checkpoint as load_for_export
from tests.conftest import BOARD, ROOT
from tests.training.boards import write_boards
from tests.training.networks import small_network
from training.config import read_config
from training.data.source import read_dataset
from training.learning.optimizer import Optimizer
from training.network.checkpoint import LOG, MANIFEST, REPLAY, load_checkpoint
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.pruning import (
    KEPT_SHARE,
    TOGETHER,
    PruningError,
    channel_importance,
    choose_channels,
    feed_forwards,
    keep_channels,
)
from training.network.tokenizer import encode_batch
from training.prune import crop_losses, main, prune

WEIGHTS = "model.safetensors"
ENCODER = "model.language_model.encoder.layers.0"
VISION = "model.vision_tower.blocks.1.0.channel_block.ffn"
FINE = "grounding.fine"
BLOCKS, WIDTH = 5, 128  # of the tiny checkpoint, hidden channels of each

Refusal = Callable[[Path, Path, str], str]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boards(tmp_path_factory.mktemp("boards") / "data")


@pytest.fixture(scope="module")
def pruned(tiny_checkpoint: Path, boards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without 40 % of its channels; the command's report lies beside it."""
    root = tmp_path_factory.mktemp("prune")
    with pytest.MonkeyPatch.context() as monkeypatch, (root / "report.json").open("w") as report:
        monkeypatch.setattr(sys, "stdout", report)
        assert run(monkeypatch, tiny_checkpoint, boards, "0.4", root / "out") == 0
    return root / "out"


def run(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, data: Path, sparsity: str, out: Path, *more: str) -> int:
    command = ["prune", "--checkpoint", str(checkpoint), "--data", str(data), "--sparsity", sparsity]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out), "--images", "4", *more])
    try:
        return main()
    except SystemExit as end:  # argparse's
        return int(str(end.code))


def load(folder: Path) -> Florence2ForGrounding:
    return load_checkpoint(folder)[0]


def widths(network: nn.Module) -> dict[str, int]:
    return {name: block.fc1.out_features for name, block in feed_forwards(network).items()}


@torch.no_grad()
def read(network: Florence2ForGrounding, tokenizer: Tokenizer) -> tuple[Tensor, ...]:
    """Both readings of one picture."""
    tile = network.config.tile_size
    image = torch.randint(0, 256, (1, tile, tile, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    embeddings = network.encode_prompts(*encode_batch(tokenizer, ["find shorts", "断路"]))
    features = network.image_features(network.normalise(image))
    decoded = network.model.language_model.decoder(
        input_ids=torch.tensor([[2, 0, 7]]), encoder_hidden_states=features, use_cache=False
    ).last_hidden_state
    return (*network.detect(image, embeddings[None]), network.lm_head(decoded))


def test_every_kind_of_feed_forward_block_is_found(tiny_checkpoint: Path) -> None:
    assert widths(load(tiny_checkpoint)) == {
        "model.vision_tower.blocks.1.0.spatial_block.ffn": 128,
        VISION: 128,
        ENCODER: 128,
        "model.language_model.decoder.layers.0": 128,
        FINE: 128,
    }


def test_a_network_without_fine_tokens_has_the_other_blocks() -> None:
    assert {name.split(".")[1] for name in widths(small_network())} == {"vision_tower", "language_model"}


def test_the_share_asked_for_goes_and_the_matrices_shrink(pruned: Path, tiny_checkpoint: Path) -> None:
    before, after = load(tiny_checkpoint), load(pruned)
    assert sum(widths(after).values()) == pytest.approx(0.6 * sum(widths(before).values()), abs=TOGETHER / 2)
    for name, block in feed_forwards(after).items():
        assert len(block.fc1.weight) == len(block.fc1.bias) == block.fc2.weight.shape[1] == widths(after)[name]
        assert widths(after)[name] % TOGETHER == 0
    assert after.grounding.fine is not None
    assert after.grounding.fine.expand.out_features < WIDTH
    assert (pruned / WEIGHTS).stat().st_size < (tiny_checkpoint / WEIGHTS).stat().st_size


def test_the_report_counts_what_went(pruned: Path, tiny_checkpoint: Path) -> None:
    report = json.loads((pruned.parent / "report.json").read_text().splitlines()[-1])
    before, after = load(tiny_checkpoint), load(pruned)
    assert report["channels"]["after"] == sum(widths(after).values())
    assert report["parameters"] == {
        "before": sum(weight.numel() for weight in before.parameters()),
        "after": sum(weight.numel() for weight in after.parameters()),
        "removed_share": pytest.approx(1 - report["parameters"]["after"] / report["parameters"]["before"], abs=1e-4),
    }
    # Two operations per multiply-add; a channel of a block costs its row and column for each token that passes.
    vision, encoder = (128 // 16) ** 2, (128 // 16) ** 2 + 1
    gone = {name: 128 - width for name, width in widths(after).items()}
    per_tile = sum(2 * 2 * 32 * vision * count for name, count in gone.items() if "vision" in name)
    per_tile += 2 * 2 * 64 * encoder * gone[ENCODER]
    per_tile += 2 * 2 * 64 * 4 * vision * gone[FINE]  # each of the vision's tokens is four
    assert report["flops"]["before"] - report["flops"]["after"] == per_tile


def test_a_pruned_network_computes_what_the_masked_one_computes(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    network.double()
    generator = torch.Generator().manual_seed(0)
    kept = {
        name: torch.randperm(width, generator=generator)[:72].sort().values for name, width in widths(network).items()
    }
    pruned = keep_channels(network, kept).double()
    whole = read(network, tokenizer)
    for name, block in feed_forwards(network).items():
        gone = torch.ones(128, dtype=torch.bool).index_fill(0, kept[name], False)
        with torch.no_grad():
            block.fc2.weight[:, gone] = 0
    for full, masked, small in zip(whole, read(network, tokenizer), read(pruned, tokenizer), strict=True):
        torch.testing.assert_close(small, masked, rtol=0, atol=1e-9)
        assert (full - masked).abs().max() > 1e-6


def test_sparsity_0_changes_nothing(
    tiny_checkpoint: Path, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tiny_checkpoint, boards, "0", tmp_path / "out") == 0
    before, after = load_file(tiny_checkpoint / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    (network, tokenizer, _), same = load_checkpoint(tiny_checkpoint), load(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(read(network, tokenizer), read(same, tokenizer), strict=True))


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_dead_channels_go_first(layer: str, tiny_checkpoint: Path, boards: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    dead = torch.tensor([3, 17, 40, 41, 64, 90, 126, 127])
    for name in (ENCODER, VISION, FINE):
        block = feed_forwards(network)[name]
        with torch.no_grad():
            if layer == "fc1":
                block.fc1.weight[dead] = block.fc1.bias[dead] = 0
            else:
                block.fc2.weight[:, dead] = 0
    importance = channel_importance(network, crop_losses(network, tokenizer, read_dataset(boards, "train"), 4, seed=0))
    kept = choose_channels(importance, 3 * TOGETHER / (BLOCKS * WIDTH))
    for name, channels in kept.items():
        gone = sorted(set(range(128)) - set(channels.tolist()))
        assert gone == (dead.tolist() if name in (ENCODER, VISION, FINE) else [])


def test_importance_sums_weight_times_gradient_over_a_channel_and_averages_over_losses() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict({"block": nn.Module()})
    block = network["block"]
    block.fc1, block.fc2 = nn.Linear(2, 5), nn.Linear(5, 3)
    inputs = [torch.randn(4, 2), torch.randn(4, 2)]

    def loss(x: Tensor) -> Tensor:
        return block.fc2(block.fc1(x).relu()).square().mean()

    expected = torch.zeros(5)
    for x in inputs:
        network.zero_grad()
        loss(x).backward()
        for channel in range(5):
            expected[channel] += (block.fc1.weight[channel] * block.fc1.weight.grad[channel]).abs().sum() / 2
            expected[channel] += (block.fc1.bias[channel] * block.fc1.bias.grad[channel]).abs() / 2
            expected[channel] += (block.fc2.weight[:, channel] * block.fc2.weight.grad[:, channel]).abs().sum() / 2
    torch.testing.assert_close(channel_importance(network, map(loss, inputs))["block"], expected.detach())


def test_blocks_are_ranked_together_by_importance_relative_to_their_own() -> None:
    ramp = torch.arange(32.0)
    kept = choose_channels({"even": (ramp + 100).flip(0), "steep": 1000 * ramp}, 24 / 64)
    assert kept["even"].tolist() == list(range(24))
    assert kept["steep"].tolist() == list(range(16, 32))


def test_a_block_without_importance_keeps_its_share() -> None:
    kept = choose_channels({"idle": torch.zeros(64), "busy": torch.arange(1.0, 65)}, 0.75)
    assert len(kept["idle"]) == KEPT_SHARE * 64
    assert len(kept["busy"]) == 24


def test_blocks_that_a_loss_does_not_reach_count_nothing_for_it(tiny_checkpoint: Path) -> None:
    network = load(tiny_checkpoint)
    loss = network.get_submodule(ENCODER).fc1.weight.square().sum()
    importance = channel_importance(network, [loss])
    assert importance[ENCODER].gt(0).all()
    assert all(not values.any() for name, values in importance.items() if name != ENCODER)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_refused(tiny_checkpoint: Path, broken: float) -> None:
    network = load(tiny_checkpoint)
    loss = sum(weight.sum() for weight in network.parameters()) * broken
    assert isinstance(loss, Tensor)
    with pytest.raises(PruningError, match=ENCODER):
        channel_importance(network, [loss])


def test_a_pruned_checkpoint_is_pruned_again(pruned: Path, tiny_checkpoint: Path) -> None:
    first = load(pruned)
    second = keep_channels(first, {ENCODER: torch.arange(8), FINE: torch.arange(16)})
    assert widths(second) == widths(first) | {ENCODER: 8, FINE: 16}
    assert widths(Florence2ForGrounding(second.config)) == widths(second)


def test_a_saved_network_is_the_one_that_was_pruned(pruned: Path, tiny_checkpoint: Path, boards: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    small, _ = prune(network, tokenizer, read_dataset(boards, "train"), sparsity=0.4, images=4, seed=0)
    assert json.loads((pruned / "config.json").read_text())["pruned_ffn"] == small.config.pruned_ffn
    for kept, read_back in zip(read(small, tokenizer), read(load(pruned), tokenizer), strict=True):
        torch.testing.assert_close(read_back, kept, rtol=0, atol=1e-5)


def test_a_pruned_checkpoint_takes_over_what_still_holds_and_tells_its_source(
    tiny_checkpoint: Path, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(tiny_checkpoint, tmp_path / "source")
    given = json.loads((source / MANIFEST).read_text())
    outdated = {"calibration": {"score_thresholds": {"open": 0.9}}, "metrics": {"holdout": {"map50": 0.9}}}
    (source / MANIFEST).write_text(json.dumps(given | outdated))
    (source / LOG).write_text('{"step": 20}\n')
    (source / REPLAY).mkdir()
    (source / REPLAY / "dataset.json").write_text("{}")
    assert run(monkeypatch, source, boards, "0.3", tmp_path / "out", "--seed", "5") == 0
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["defects"] == given["defects"]
    assert manifest["pruning"]["source"] == {"name": "tiny", "sha256": sha256_of(source / WEIGHTS)}
    assert (manifest["pruning"]["sparsity"], manifest["pruning"]["images"], manifest["pruning"]["seed"]) == (0.3, 4, 5)
    assert not outdated.keys() & manifest.keys()
    for taken_over in (LOG, f"{REPLAY}/dataset.json", "tokenizer.json"):
        assert (tmp_path / "out" / taken_over).read_bytes() == (source / taken_over).read_bytes()


def test_export_publishes_a_pruned_checkpoint(pruned: Path, tmp_path: Path) -> None:
    checkpoint = load_for_export(pruned)
    assert widths(checkpoint.network) == widths(load(pruned))
    report = tmp_path / "report.json"
    assert build(checkpoint, "fp32", "onnxruntime", tmp_path / "models", BOARD.parent, report) == 1
    assert not json.loads(report.read_text())["faults"]


def test_a_pruned_network_learns(pruned: Path, boards: Path) -> None:
    network, tokenizer, _ = load_checkpoint(pruned)
    network.train()
    dataset = read_dataset(boards, "train")
    optimizer = Optimizer(network, read_config(ROOT / "training" / "configs" / "deeppcb_tiny.yaml", []).train, 0, 10)
    before = {
        name: (block.fc1.weight.clone(), block.fc2.weight.clone()) for name, block in feed_forwards(network).items()
    }
    (loss,) = crop_losses(network, tokenizer, dataset, 4, seed=0)
    loss.backward()
    assert optimizer.step(0) > 0
    for name, block in feed_forwards(network).items():
        assert not torch.equal(block.fc1.weight, before[name][0]), name
        assert not torch.equal(block.fc2.weight, before[name][1]), name
    (after,) = crop_losses(network, tokenizer, dataset, 4, seed=0)
    assert after < loss


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one message of a command that refuses a checkpoint, data and sparsity, and writes nothing."""

    def refuse(checkpoint: Path, data: Path, sparsity: str) -> str:
        there = sorted(tmp_path.iterdir())
        assert run(monkeypatch, checkpoint, data, sparsity, tmp_path / "out") == 2
        assert sorted(tmp_path.iterdir()) == there
        output = capsys.readouterr()
        assert not output.out
        (message,) = [line for line in output.err.splitlines() if "error: " in line]
        return message

    return refuse


@pytest.mark.parametrize(
    ("sparsity", "named"), [("1", "'1'"), ("-0.1", "-0.1"), ("nan", "nan"), ("much", "much"), ("0.95", "0.875")]
)
def test_an_impossible_sparsity_is_refused(
    sparsity: str, named: str, tiny_checkpoint: Path, boards: Path, refusal: Refusal
) -> None:
    assert named in refusal(tiny_checkpoint, boards, sparsity)


def test_an_existing_folder_is_left_alone(
    tiny_checkpoint: Path, boards: Path, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "out").mkdir()
    assert str(tmp_path / "out") in refusal(tiny_checkpoint, boards, "0.4")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_an_unusable_checkpoint_is_named(
    name: str, fault: str, tiny_checkpoint: Path, boards: Path, tmp_path: Path, refusal: Refusal
) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    if fault == "missing":
        (broken / name).unlink()
    else:
        (broken / name).write_bytes((broken / name).read_bytes()[:500])
    assert str(broken) in refusal(broken, boards, "0.4")


def test_unusable_data_is_named(tiny_checkpoint: Path, boards: Path, tmp_path: Path, refusal: Refusal) -> None:
    message = refusal(tiny_checkpoint, tmp_path / "nowhere", "0.4")
    assert str(tmp_path / "nowhere") in message
    unlabelled = shutil.copytree(boards, tmp_path / "unlabelled")
    for file in (unlabelled / "annotations").iterdir():
        file.write_text("")
    assert "labelled" in refusal(tiny_checkpoint, unlabelled, "0.4")
