import itertools
import json
import random
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Florence2ForConditionalGeneration

from export.build import build
from export.contract.defects import BARE_BOARD
from export.graphs.checkpoint import load_checkpoint as load_for_export
from tests.conftest import BOARD, ROOT, run_module
from tests.training.boards import write_boards
from tests.training.published_florence2 import BASE, SMALL, write_native, write_older
from training.config import LoraConfig, TrainConfig, read_config
from training.crops.crop import Crop
from training.data.outline import UNKNOWN
from training.learning.objective import batch_terms
from training.learning.optimizer import Optimizer
from training.learning.targets import assign, draw_generative_batch, draw_grounding_prompts
from training.network.checkpoint import load_checkpoint, save_checkpoint
from training.network.lora import add_adapters, merge_adapters
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.pretrained import load_pretrained
from training.network.published import EMBEDDINGS, LOGITS_BIAS, PretrainedError
from training.network.tokenizer import encode_batch
from training.train import Run

CONFIG = ROOT / "training" / "configs" / "florence2_finetune.yaml"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("published") / "native", SMALL)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, native: Path) -> Path:
    return write_older(tmp_path_factory.mktemp("published") / "older", native, SMALL)


def load(folder: Path, tile_size: int = 96) -> Florence2ForGrounding:
    return load_pretrained(folder, tile_size=tile_size, boxes_per_tile=8)[0].eval()


def tiles(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def logits(model: Florence2ForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    """Of the decoder, the image tokens being all that the encoder reads."""
    features = model.get_image_features(pixel_values).pooler_output
    answer = torch.tensor([[2, 0, 5, 6, 7]]).expand(len(features), -1)
    output: Tensor = model(inputs_embeds=features, decoder_input_ids=answer).logits
    return output


def test_both_layouts_compute_what_transformers_computes(native: Path, older: Path) -> None:
    reference = Florence2ForConditionalGeneration.from_pretrained(native, dtype=torch.float32).eval()
    networks = [load(native), load(older)]
    pixel_values = networks[0].normalise(tiles(2, 96))
    text_tokens = SMALL["text_tokens"]
    wanted = logits(reference, pixel_values)
    assert wanted.std() > 0.1
    for network in networks:
        torch.testing.assert_close(logits(network, pixel_values)[..., :text_tokens], wanted[..., :text_tokens])


def test_every_tensor_of_the_older_layout_lands_in_its_place(native: Path, older: Path) -> None:
    published = load_file(native / "model.safetensors")
    for folder in (native, older):
        loaded = load(folder).state_dict()
        for name, weight in published.items():
            rows = slice(SMALL["text_tokens"] + 1024) if len(weight) > 1024 else slice(None)  # <image> is newer
            assert torch.equal(loaded[name][rows], weight[rows].float()), name
        assert all(weight.dtype == torch.float32 for weight in loaded.values())
        assert all(weight.isfinite().all() for weight in loaded.values())


def test_the_vocabulary_is_the_tokenizers(native: Path, older: Path) -> None:
    for folder in (native, older):
        network, tokenizer = load_pretrained(folder, tile_size=96, boxes_per_tile=8)
        first = SMALL["text_tokens"] + 4
        assert network.config.location_token_id == tokenizer.token_to_id("<loc_0>") == first
        assert tokenizer.encode("断路<loc_999>").ids[-2:] == [first + 999, 2]
        assert network.config.image_token_id == tokenizer.token_to_id("<image>") == SMALL["text_tokens"] + 1024
        assert network.config.text_config.vocab_size == tokenizer.get_vocab_size() == len(network.lm_head.weight)
        assert network.lm_head.weight is network.get_input_embeddings().weight
        assert network.location_embeddings.shape == (1000, SMALL["width"])


def test_generation_may_name_a_defect_twice(native: Path) -> None:
    network = load(native)
    for config in (network.generation_config, network.config.text_config):
        assert not getattr(config, "no_repeat_ngram_size", None)
        assert getattr(config, "forced_eos_token_id", None) is None


def test_pixels_are_normalised_channel_by_channel(native: Path) -> None:
    network = load(native)
    image = tiles(1, 96)
    wanted = (image[0].numpy() / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(network.normalise(image)[0].permute(1, 2, 0).numpy(), wanted, atol=1e-6)
    network.config.image_mean = network.config.image_std = 0.5  # as checkpoints say it that have one for all channels
    assert torch.equal(network.normalise(image), (image.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("tile_size", "boxes", "named"),
    [
        (1024, 100, ["1025 image tokens", "1024 positions", "928"]),
        (960, 100, ["901 image tokens", "928"]),
        (100, 5, ["multiple of 32"]),
        (64, 100, ["boxes_per_tile 100", "4 image tokens"]),
        (1030, 5000, ["multiple of 32", "928", "boxes_per_tile 5000"]),
    ],
)
def test_a_tile_that_does_not_fit_is_refused(native: Path, tile_size: int, boxes: int, named: list[str]) -> None:
    with pytest.raises(PretrainedError) as error:
        load_pretrained(native, tile_size=tile_size, boxes_per_tile=boxes)
    for words in (str(tile_size), *named):
        assert words in str(error.value)


def test_the_largest_tile_works(native: Path) -> None:
    network = load(native, 928)
    features = network.image_features(network.normalise(tiles(1, 928)))
    prompt = network.get_input_embeddings()(torch.full((1, 128), 5))
    encoder = network.model.language_model.encoder
    assert encoder(inputs_embeds=torch.cat([features, prompt], 1)).last_hidden_state.isfinite().all()


def broken(folder: Path, out: Path, **weights: Tensor | None) -> Path:
    """A copy of a published folder with weights replaced, or left out where None is given."""
    shutil.copytree(folder, out)
    whole = load_file(out / "model.safetensors") | {
        name: weight for name, weight in weights.items() if weight is not None
    }
    save_file({name: whole[name] for name in whole if weights.get(name, 0) is not None}, out / "model.safetensors")
    return out


def test_weights_that_do_not_fit_are_listed_together(native: Path, tmp_path: Path) -> None:
    missing = "model.vision_tower.blocks.2.1.channel_block.norm2.weight"
    bent = "model.language_model.decoder.layers.0.fc1.weight"
    changes = {missing: None, EMBEDDINGS: None, "model.extra": torch.zeros(1), bent: torch.zeros(3, 32)}
    with pytest.raises(PretrainedError) as error:
        load(broken(native, tmp_path / "broken", **changes))
    for words in (missing, EMBEDDINGS, "model.extra", f"{bent} (3, 32) instead of (64, 32)"):
        assert words in str(error.value)


def test_a_bias_that_would_be_lost_is_refused(older: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=LOGITS_BIAS):
        load(broken(older, tmp_path / "broken", **{LOGITS_BIAS: torch.ones(1, 8)}))


def test_tied_weights_that_differ_are_refused(native: Path, tmp_path: Path) -> None:
    other = torch.zeros_like(load_file(native / "model.safetensors")[EMBEDDINGS])
    with pytest.raises(PretrainedError, match="one tensor"):
        load(broken(native, tmp_path / "broken", **{"lm_head.weight": other}))


def test_a_damaged_file_is_named(native: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        damaged = shutil.copytree(native, tmp_path / name)
        (damaged / name).write_bytes((damaged / name).read_bytes()[:1000])
        with pytest.raises(PretrainedError, match=name):
            load(damaged)


def test_a_vocabulary_of_another_model_is_refused(native: Path, older: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(native, tmp_path / "mixed")
    shutil.copy(older / "tokenizer.json", mixed)  # without locations
    with pytest.raises(PretrainedError, match=r"<loc_0> to <loc_999>.*400 tokens.*1472 embeddings"):
        load(mixed)
    shuffled = shutil.copytree(native, tmp_path / "shuffled")
    text = (shuffled / "tokenizer.json").read_text()
    (shuffled / "tokenizer.json").write_text(text.replace("<loc_7>", "<loc_x>"))
    with pytest.raises(PretrainedError, match="consecutive"):
        load(shuffled)


def test_what_is_no_florence_2_is_refused(native: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=r"config\.json, tokenizer\.json, model\.safetensors missing"):
        load(tmp_path)
    other = shutil.copytree(native, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(PretrainedError, match="llava"):
        load(other)
    with pytest.raises(PretrainedError, match="neither a folder nor a name on the hub"):
        load(tmp_path / "nowhere")


def test_a_variant_that_transformers_does_not_build_is_refused(older: Path, tmp_path: Path) -> None:
    variant = shutil.copytree(older, tmp_path / "variant")
    config = json.loads((variant / "config.json").read_text())
    config["vision_config"]["image_feature_source"] = ["last_frame"]
    (variant / "config.json").write_text(json.dumps(config))
    with pytest.raises(PretrainedError, match="last_frame"):
        load(variant)


def settings(source: str, data: Path, out: Path) -> list[str]:
    """A run of two steps."""
    return [
        f"data.sources=[{{path: {data}}}]",
        f"out={out}",
        "data.holdout_groups=['22222']",
        f"model.pretrained={source}",
        "model.input_resolution=128",
        "model.boxes_per_tile=8",
        "train.batch_size=2",
        "train.accumulation=2",
        "train.generative_share=0.5",
        "train.precision=fp32",
        "train.threads=1",
        "train.max_epochs=2.67",  # 2 steps: there are 3 pictures
        "train.stages=[{share: 1, mosaic: 0.5}]",
    ]


def test_a_hub_name_without_the_hub_says_what_to_do(tmp_path: Path) -> None:
    values = settings("microsoft/Florence-2-base", write_boards(tmp_path / "data"), tmp_path / "run")
    words = (word for value in values for word in ("--set", value))
    result = run_module(
        "training.train", "--config", str(CONFIG), *words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty")
    )
    assert result.returncode == 2
    for words in ("microsoft/Florence-2-base", "hub", "give the folder"):
        assert words in result.stderr
    assert "Traceback" not in result.stderr


def write_photos(folder: Path, name: str, count: int = 4) -> None:
    """Colour photos with boxes and a COCO file of what every labelling tool writes."""
    rng = np.random.default_rng(len(name))
    images = [{"id": index, "file_name": f"{name}_{index}.jpg", "width": 160, "height": 120} for index in range(count)]
    for image in images:
        pixels = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(image["file_name"]))
    boxes = [{"id": index, "image_id": index, "category_id": 1, "bbox": [30, 40, 50, 30]} for index in range(count)]
    tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "corrosion"}]}
    (folder / f"{name}.json").write_text(json.dumps(tree))


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/finetune.md"])
def test_the_command_that_is_printed_fine_tunes_on_photos(
    page: str, native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the files that it names; what is set behind makes the run small."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = [line for line in text.splitlines() if f"configs/{CONFIG.name} " in line and "data.sources=" in line]
    overrides = [value for flag, value in itertools.pairwise(shlex.split(command)) if flag == "--set"]
    monkeypatch.chdir(tmp_path)
    for name in ("train", "val"):
        write_photos(tmp_path, name)
    small = settings(str(native), tmp_path, tmp_path / "run")
    small = [value for value in small if not value.startswith("data.")]
    run = Run(read_config(CONFIG, [*overrides, *small]))
    assert run.batches.sampler.camera is not None
    run.train()
    assert load_checkpoint(tmp_path / "run" / "checkpoint")[2]["data"]["categories"] == ["corrosion"]


def test_a_fine_tuned_checkpoint_passes_the_gate_of_the_export(older: Path, tmp_path: Path) -> None:
    fast = ["train.lr=0.001", "train.warmup_steps=0"]  # two steps of fine-tuning vanish in half precision
    Run(read_config(CONFIG, [*settings(str(older), write_boards(tmp_path / "data"), tmp_path / "run"), *fast])).train()
    folder = tmp_path / "run" / "checkpoint"
    network, _, manifest = load_checkpoint(folder)
    assert manifest["training"]["config"]["model"]["pretrained"] == str(older)
    preprocessing = json.loads((folder / "preprocessor_config.json").read_text())
    assert preprocessing["image_mean"] == [0.485, 0.456, 0.406]
    before = load(older, 128).half().float().state_dict()
    after = network.state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert any(name.startswith("model.vision_tower.blocks.0") for name in changed)
    repository = tmp_path / "models"
    assert (
        build(load_for_export(folder), "fp32", "onnxruntime", repository, BOARD.parent, tmp_path / "report.json") == 1
    )
    assert not json.loads((tmp_path / "report.json").read_text())["faults"]
    manifest = json.loads((repository / "detector" / "1" / "manifest.json").read_text())
    assert manifest["dimensions"] == {"tile": 128, "embedding": SMALL["width"], "boxes": 8}


@pytest.fixture
def roomy_path(tmp_path: Path) -> Iterator[Path]:
    """Emptied afterwards, unlike pytest's own."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def learn(network: Florence2ForGrounding, tokenizer: Tokenizer, config: TrainConfig) -> Optimizer:
    """One step on a crop of 224 pixels, asked about in both readings."""
    crop = Crop(tiles(1, 224)[0].numpy(), np.array([[40, 60, 90, 100]], np.float32), np.array([2]), ((),), (UNKNOWN,))
    rng = random.Random(0)
    optimizer = Optimizer(network, config, 0, 10)
    terms = batch_terms(
        network.train(),
        torch.from_numpy(crop.image)[None],
        assign([crop], 7, 224),
        draw_grounding_prompts(BARE_BOARD, [crop], rng),
        [crop.sparse],
        draw_generative_batch(BARE_BOARD, [crop], 224, tokenizer, rng),
        tokenizer,
        5.0,
    )
    terms.total().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in optimizer.parameters)
    assert 0 < optimizer.step(0) < float("inf")
    return optimizer


def test_florence_2_base_trains_and_comes_back_from_its_checkpoint(roomy_path: Path) -> None:
    """The published dimensions, 0.23 billion weights, in both layouts; a crop of 224 pixels makes 49 image tokens.

    Both layouts load as the same network, so one of them goes on: every weight takes a step, then adapters do.
    """
    native = write_native(roomy_path / "native", BASE)
    older = write_older(roomy_path / "older", native, BASE)
    of_native, native_tokenizer = load_pretrained(native, tile_size=224, boxes_per_tile=8)
    network, tokenizer = load_pretrained(older, tile_size=224, boxes_per_tile=8)
    assert network.config.location_token_id == 50269
    assert network.config.image_token_id == 51289
    assert sum(weight.numel() for weight in network.parameters()) == 234_963_874
    assert of_native.config.to_dict() == network.config.to_dict()
    assert native_tokenizer.get_vocab() == tokenizer.get_vocab()
    loaded = network.state_dict()
    assert of_native.state_dict().keys() == loaded.keys()
    for name, weight in of_native.state_dict().items():
        rows = slice(51289) if weight.shape[:1] == (51290,) else ...  # the older layout has no embedding of <image>
        assert name.startswith("grounding.") or torch.equal(loaded[name][rows], weight[rows]), name
    del of_native, loaded
    learn(network, tokenizer, read_config(CONFIG, []).train)
    save_checkpoint(roomy_path / "checkpoint", network, tokenizer, {"name": "base"}, log="")
    again, same_tokenizer, _ = load_checkpoint(roomy_path / "checkpoint")
    assert (roomy_path / "checkpoint" / "model.safetensors").stat().st_size < 500e6
    network = network.half().float().eval()  # as the checkpoint rounds them
    with torch.inference_mode():
        prompts = network.encode_prompts(*encode_batch(tokenizer, ["断路", "find all shorts"]))
        assert torch.equal(prompts, again.encode_prompts(*encode_batch(same_tokenizer, ["断路", "find all shorts"])))
        for mine, theirs in zip(
            network.detect(tiles(1, 224), prompts[None]), again.detect(tiles(1, 224), prompts[None]), strict=True
        ):
            assert torch.equal(mine, theirs)
        pixel_values = network.normalise(tiles(1, 224))
        before = logits(network, pixel_values)
        assert torch.equal(before, logits(again, pixel_values))

    targets = ("q_proj", "k_proj", "v_proj", "out_proj", "qkv", "proj")
    add_adapters(again, LoraConfig(rank=16, alpha=32, dropout=0.05, target_modules=targets))
    adapted = learn(again, tokenizer, read_config(CONFIG, ["train.lr=0.001", "train.warmup_steps=0"]).train)
    assert sum(weight.numel() for weight in adapted.parameters) < 13e6
    save_checkpoint(roomy_path / "adapted", again, tokenizer, {"name": "base"}, log="")
    merged, (saved, _, _) = merge_adapters(again).half().float().eval(), load_checkpoint(roomy_path / "adapted")
    after = logits(saved, pixel_values)
    assert torch.equal(logits(merged, pixel_values), after)
    assert not torch.equal(before, after)
