"""The loop from inside: what a run does besides training to its last step."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.boards import write_boards
from tests.training.small_run import CONFIG, settings
from training.config import Config, ConfigError, read_config
from training.learning.batches import Batch, DecoderBatch, Draws
from training.metrics import Figures
from training.network.checkpoint import load_checkpoint
from training.network.regions import regions_of
from training.train import Run

ALL_LEARNS = "train.stages=[{share: 1, mosaic: 0.5}]"
SCORES = {1: 0.2, 2: 0.6, 3: 0.4, 4: 0.5, 5: 0.9}  # mAP@0.5 by step; 0 afterwards
PLAIN = ["train.stages=[{share: 1, mosaic: 0}]", "train.precision=fp32", "train.generative_share=0"]
PATIENT = "train.early_stopping={patience: 2, min_delta: 0.0}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boards(tmp_path_factory.mktemp("learner") / "data")


def entries(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


class Judged(Run):
    """A run whose validations come out as SCORES says; `judged` are the weights at each."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.judged: dict[int, dict[str, torch.Tensor]] = {}

    def validate(self) -> Figures:
        weights = self.learner.average.state_dict()
        self.judged[self.step] = {
            name: weight.clone().half() for name, weight in weights.items()
        }  # as a checkpoint has them
        return Figures(SCORES.get(self.step, 0.0), 0.0, {}, 0.0, 0.5)


class Killed(Judged):
    """The same, killed at step 4."""

    def validate(self) -> Figures:
        if self.step == 4:
            raise KeyboardInterrupt
        return super().validate()


def test_early_stopping_keeps_the_best_checkpoint_and_gives_it_to_the_decoder(data: Path, tmp_path: Path) -> None:
    overrides = [*settings(data, tmp_path / "run", steps=16), "train.validate_every=1", "train.save_every=1", PATIENT]
    run = Judged(read_config(CONFIG, overrides))
    run.train()
    judged = [entry for entry in entries(tmp_path / "run") if "best_step" in entry]
    assert [(entry["step"], entry["best_step"], entry["early_stopping"]) for entry in judged] == [
        (1, 1, False),
        (2, 2, False),
        (3, 2, False),
        (4, 2, True),
    ]
    assert run.step == 16  # the decoder's stage has run in full
    network, _, manifest = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert manifest["training"]["steps"] == 16
    kept = network.half().state_dict()
    changed = {name for name, weight in run.judged[2].items() if not torch.equal(weight, kept[name])}
    assert changed
    assert all(name.startswith("model.language_model.decoder.") for name in changed)


def test_a_run_that_stops_early_keeps_its_best_and_a_killed_one_decides_alike(data: Path, tmp_path: Path) -> None:
    whole, parts = (
        read_config(
            CONFIG,
            [
                *settings(data, tmp_path / name, steps=8),
                "train.validate_every=1",
                "train.save_every=3",
                ALL_LEARNS,
                PATIENT,
            ],
        )
        for name in ("whole", "parts")
    )
    Judged(whole).train()
    with pytest.raises(KeyboardInterrupt):
        Killed(parts).train()
    Judged(parts).train()
    for config in (whole, parts):
        _, _, manifest = load_checkpoint(config.out / "checkpoint")
        assert manifest["training"]["steps"] == 2
        assert manifest["metrics"]["holdout"]["map50"] == 0.6
    wanted, got = (torch.load(config.out / "state.pt", weights_only=True) for config in (whole, parts))
    assert wanted["step"] == got["step"] == 8
    assert wanted["stopping"] == got["stopping"]
    for name, weight in wanted["network"].items():
        assert torch.equal(weight, got["network"][name]), name
    Judged(whole).train()  # over: nothing more happens
    assert max(int(str(entry["step"])) for entry in entries(whole.out)) == 4


def test_a_run_killed_in_the_decoders_stage_goes_on_from_the_best_weights_of_the_stages_before(
    data: Path, tmp_path: Path
) -> None:
    """Its validation at step 3 writes over the best checkpoint, which is of step 2."""
    whole, parts = (
        read_config(CONFIG, [*settings(data, tmp_path / name), "train.validate_every=1", "train.save_every=5", PATIENT])
        for name in ("whole", "parts")
    )
    Judged(whole).train()
    with pytest.raises(KeyboardInterrupt):
        Killed(parts).train()
    assert load_checkpoint(parts.out / "checkpoint")[2]["training"]["steps"] == 3
    resumed = Judged(parts)
    resumed.train()
    assert list(resumed.judged) == [3, 4]
    wanted, got = (torch.load(config.out / "state.pt", weights_only=True) for config in (whole, parts))
    for kind in ("network", "average"):
        for name, weight in wanted[kind].items():
            assert torch.equal(weight, got[kind][name]), (kind, name)


def test_tensorboard_shows_the_curves_and_goes_on_after_a_resume(data: Path, tmp_path: Path) -> None:
    overrides = [*settings(data, tmp_path / "run", steps=8), "train.validate_every=1", "train.save_every=3", ALL_LEARNS]
    config = read_config(CONFIG, overrides)
    with pytest.raises(KeyboardInterrupt):
        Killed(config).train()
    (folder,) = [path for path in config.out.iterdir() if path.name == "tensorboard"]
    # TensorBoard reads files by name: second, host, process, count; those of one second would come in any order here
    (killed,) = folder.iterdir()
    killed.rename(folder / f"events.out.tfevents.{0:010d}.killed")
    Judged(config).train()
    events = EventAccumulator(str(folder))
    events.Reload()
    curve = events.Scalars("holdout/map50")
    assert [point.step for point in curve] == list(range(1, 9))
    assert [round(point.value, 3) for point in curve] == [0.2, 0.6, 0.4, 0.5, 0.9, 0, 0, 0]


def test_a_stage_draws_and_learns_at_its_own_resolution(data: Path, tmp_path: Path) -> None:
    stages = "train.stages=[{share: 0.5, mosaic: 0, input_resolution: 64}, {share: 0.5, mosaic: 0}]"
    run = Run(read_config(CONFIG, [*settings(data, tmp_path / "run"), stages]))
    sizes = []
    for step in (0, 3):
        batch = run.batches.draw(run.schedule.stage(step), Draws.of(0, step, 0))
        assert isinstance(batch, Batch)
        sizes.append(batch.image.shape[1])
        cells = (batch.image.shape[1] // 16) ** 2
        assert int(batch.found.token_ids.max()) < cells
        terms = run.learner.terms(batch)
        assert torch.isfinite(terms.total())
    assert sizes == [64, 128]


def test_the_decoder_is_shown_defects_large_where_it_is_asked_for_their_outlines(data: Path, tmp_path: Path) -> None:
    overrides = [*settings(data, tmp_path / "run"), "train.outline_share=1.0", "train.generative_share=1.0"]
    run = Run(read_config(CONFIG, overrides))
    first = run.learner.network.config.location_token_id
    joint, alone = (run.batches.draw(run.schedule.stage(step), Draws.of(0, step, 0)) for step in (0, 3))
    assert isinstance(joint, Batch)
    assert joint.generative is not None
    assert not regions_of(joint.generative.input_ids, first)[0].any()  # its crops serve the grounding reading too
    assert isinstance(alone, DecoderBatch)
    outlined, regions = regions_of(alone.generative.input_ids, first)
    assert outlined.any()
    sides = (regions[:, 2:] - regions[:, :2]).amax(1)
    assert ((sides >= 400) & (sides <= 600)).all()  # bins: half of the view
    assert torch.isfinite(run.learner.terms(alone).total())


def test_a_resolution_that_the_network_cannot_learn_from_is_named(data: Path, tmp_path: Path) -> None:
    stages = "train.stages=[{share: 1, mosaic: 0, input_resolution: 96}]"
    with pytest.raises(ConfigError, match="input_resolution 96"):
        Run(read_config(CONFIG, [*settings(data, tmp_path / "run"), stages]))


def test_own_templates_replace_the_built_in_phrasings(data: Path, tmp_path: Path) -> None:
    templates = "data.text_prompt_templates={en: ['QQ {label} {x}'], zh: ['请标记{label}']}"
    run = Run(read_config(CONFIG, [*settings(data, tmp_path / "run", steps=2), templates, ALL_LEARNS]))
    for step in range(4):
        batch = run.batches.draw(run.schedule.stage(0), Draws.of(0, step, 0))
        assert isinstance(batch, Batch)
        phrased = [text for text in batch.prompts.texts if text.startswith(("QQ ", "请标记"))]
        assert phrased
        assert not any(text.startswith(("find", "locate", "寻找")) for text in batch.prompts.texts)
    run.train()
    _, _, manifest = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert manifest["training"]["config"]["data"]["text_prompt_templates"]["zh"] == ["请标记{label}"]


def test_gradient_checkpointing_changes_no_gradient(data: Path, tmp_path: Path) -> None:
    gradients = []
    for switch in ("false", "true"):
        overrides = [*settings(data, tmp_path / "run"), f"train.gradient_checkpointing={switch}"]
        run = Run(read_config(CONFIG, [*overrides, "train.precision=fp32", ALL_LEARNS]))
        layers = run.learner.network.model.language_model.encoder.layers
        assert all(layer.gradient_checkpointing == (switch == "true") for layer in layers)
        run.learner.terms(run.batches.draw(run.schedule.stage(0), Draws.of(0, 0, 0))).total().backward()
        gradients.append([parameter.grad for parameter in run.learner.optimizer.parameters])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_weight_of_no_class_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"class_weights: opne is no category.*open"):
        Run(read_config(CONFIG, [*settings(data, tmp_path / "run"), "train.class_weights={opne: 2, short: 3}"]))


@pytest.mark.filterwarnings("default")  # the compiler warns of its own workings, and breaks where that is an error
def test_compiled_layers_learn_the_same(data: Path, tmp_path: Path) -> None:
    runs = {}
    for compiled in (False, True):
        out = tmp_path / str(compiled)
        overrides = [*settings(data, out, steps=2), *PLAIN]
        run = Judged(read_config(CONFIG, [*overrides, f"train.compile={compiled}"]))
        run.train()
        encoder = run.learner.network.model.language_model.encoder
        assert all((layer._compiled_call_impl is not None) == compiled for layer in encoder.layers)
        runs[compiled] = load_checkpoint(out / "checkpoint")[0].state_dict()
    for name, weight in runs[False].items():
        torch.testing.assert_close(runs[True][name], weight, atol=2e-3, rtol=1e-2)


def test_slots_learn_in_both_stages_and_come_with_the_checkpoint(data: Path, tmp_path: Path) -> None:
    run = Judged(read_config(CONFIG, [*settings(data, tmp_path / "run"), "train.box_slots=true"]))
    run.train()
    network, _, _ = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert network.box_slots is not None
    kept = network.box_slots.detach().half()
    first, *_, last = (weights["box_slots"] for _, weights in sorted(run.judged.items()))
    assert not torch.equal(first, last)
    assert torch.equal(kept, last)
