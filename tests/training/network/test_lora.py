from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from tests.conftest import ROOT
from tests.training.boards import write_boards
from tests.training.published_florence2 import SMALL, write_native
from training.config import ConfigError, LoraConfig, read_config
from training.metrics import Figures
from training.network.checkpoint import load_checkpoint
from training.network.lora import add_adapters, merge_adapters
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.pretrained import load_pretrained
from training.train import Run

CONFIG = ROOT / "training" / "configs" / "florence2_finetune.yaml"
ADAPTERS = LoraConfig(rank=4, alpha=8, dropout=0.1, target_modules=("q_proj", "v_proj", "out_proj", "qkv", "proj"))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("published") / "native", SMALL)


def load(folder: Path) -> Florence2ForGrounding:
    torch.manual_seed(0)
    return load_pretrained(folder, tile_size=96, boxes_per_tile=4, fine_tokens=True)[0].eval()


@torch.no_grad()
def read(network: Florence2ForGrounding) -> tuple[Tensor, ...]:
    """Both readings' encodings of one picture."""
    image = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = network.image_features(network.normalise(image))
    decoder = network.model.language_model.decoder
    answer = decoder(input_ids=torch.tensor([[2, 0, 7]]), encoder_hidden_states=features, use_cache=False)
    return network.encode_image(features), answer.last_hidden_state


def test_only_adapters_and_the_grounding_head_learn(native: Path) -> None:
    network = load(native)
    add_adapters(network, ADAPTERS)
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert learning >= {name for name, _ in network.named_parameters() if name.startswith("grounding.")}
    adapted = {name.split(".lora_")[0] for name in learning if ".lora_" in name}
    assert all(".lora_" in name or name.startswith("grounding.") for name in learning)
    assert {name.rpartition(".")[2] for name in adapted} == set(ADAPTERS.target_modules)
    assert any(name.startswith("model.vision_tower.") for name in adapted)
    assert any(name.startswith("model.language_model.decoder.") for name in adapted)
    assert not any(name.startswith("grounding.") for name in adapted)


def test_merged_adapters_compute_what_they_computed_beside(native: Path) -> None:
    plain, network = load(native), load(native)
    add_adapters(network, ADAPTERS)
    network.eval()
    for before, after in zip(read(plain), read(network), strict=True):
        assert torch.equal(before, after)  # new adapters add nothing
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ".lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    merged = merge_adapters(network)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert any(isinstance(module, LoraLayer) for module in network.modules())  # untouched, to be trained on
    for before, beside, within in zip(read(plain), read(network), read(merged), strict=True):
        torch.testing.assert_close(within, beside, rtol=1e-4, atol=1e-4)
        assert (beside - before).abs().max() > 0.01


def test_a_layer_that_does_not_exist_is_named(native: Path) -> None:
    with pytest.raises(ConfigError, match=r"c_attn, edge_projection; there are .*out_proj"):
        add_adapters(
            load(native), ADAPTERS.model_copy(update={"target_modules": ("proj", "c_attn", "edge_projection")})
        )


def settings(published: Path, data: Path, out: Path) -> list[str]:
    """A run of four steps, with dropout."""
    return [
        f"data.sources=[{{path: {data}}}]",
        f"out={out}",
        "data.holdout_groups=['22222']",
        f"model.pretrained={published}",
        "model.input_resolution=128",
        "model.boxes_per_tile=8",
        "model.lora={rank: 4, alpha: 8, dropout: 0.1, target_modules: [q_proj, qkv]}",
        "train.batch_size=2",
        "train.lr=0.01",
        "train.warmup_steps=0",
        "train.threads=1",
        "train.save_every=2",
        "train.max_epochs=2.67",  # 4 steps: there are 3 pictures
        "train.stages=[{share: 1, mosaic: 0.5}]",
    ]


def test_a_run_with_adapters_leaves_a_plain_checkpoint(native: Path, tmp_path: Path) -> None:
    Run(read_config(CONFIG, settings(native, write_boards(tmp_path / "data"), tmp_path / "run"))).train()
    trained = load_checkpoint(tmp_path / "run" / "checkpoint")[0].state_dict()
    before = load(native).half().float().state_dict()
    assert trained.keys() == before.keys()
    changed = {name for name, weight in before.items() if not torch.equal(weight, trained[name])}
    backbone = {name for name in changed if not name.startswith("grounding.")}
    assert backbone
    assert all(name.endswith(("q_proj.weight", "qkv.weight")) for name in backbone)


def test_a_checkpoint_of_this_project_takes_adapters_too(native: Path, tmp_path: Path) -> None:
    data = write_boards(tmp_path / "data")
    Run(read_config(CONFIG, settings(native, data, tmp_path / "first"))).train()
    first = tmp_path / "first" / "checkpoint"
    own = f"model={{checkpoint: {first}, lora: {{rank: 2, alpha: 4, dropout: 0, target_modules: [q_proj]}}}}"
    kept = [setting for setting in settings(native, data, tmp_path / "second") if not setting.startswith("model.")]
    Run(read_config(CONFIG, [*kept, own])).train()
    before, after = (load_checkpoint(folder)[0].state_dict() for folder in (first, tmp_path / "second" / "checkpoint"))
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    backbone = {name for name in changed if not name.startswith("grounding.")}
    assert backbone
    assert all(name.endswith("q_proj.weight") for name in backbone)


class Interrupted(Run):
    """A run that ends where it would validate."""

    def validate(self) -> Figures:
        raise KeyboardInterrupt


def test_a_run_with_dropout_goes_on_to_the_same_weights(native: Path, tmp_path: Path) -> None:
    data = write_boards(tmp_path / "data")
    whole, parts = (read_config(CONFIG, settings(native, data, tmp_path / name)) for name in ("whole", "parts"))
    Run(whole).train()
    with pytest.raises(KeyboardInterrupt):
        Interrupted(parts).train()
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 2
    Run(parts).train()
    wanted, got = (torch.load(config.out / "state.pt", weights_only=True) for config in (whole, parts))
    assert got["step"] == 4
    for name, weight in wanted["network"].items():
        assert torch.equal(weight, got["network"][name]), name
