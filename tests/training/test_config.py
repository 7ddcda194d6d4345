import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tests.conftest import ROOT
from training import config as schema
from training.config import Config, ConfigError, ModelConfig, PretrainedConfig, Strict, read_config

CONFIGS = sorted((ROOT / "training" / "configs").rglob("*.yaml"))
FORMS = ("deeppcb_tiny.yaml", "florence2_finetune.yaml")
FINE_TUNING = ROOT / "training" / "configs" / FORMS[1]


def test_there_are_configurations() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_opens_with_its_command(path: Path) -> None:
    read_config(path, [])
    assert f"--config training/configs/{path.name}" in path.read_text()


def unset(section: BaseModel, place: str) -> Iterator[str]:
    """The fields that a section of a configuration, and those within it, leave to their defaults."""
    yield from (f"{place}{name}" for name in type(section).model_fields if name not in section.model_fields_set)
    for name in type(section).model_fields:
        value = getattr(section, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, BaseModel):
                yield from unset(inner, f"{place}{name}.")


def test_the_configuration_of_fine_tuning_has_every_field() -> None:
    assert not list(unset(read_config(FINE_TUNING, []), ""))
    kinds = [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, Strict)]
    kinds.remove(ModelConfig)  # of networks from scratch
    fields = {name for kind in kinds for name in kind.model_fields}
    assert {"text_prompt_templates", "vision_depths", "patience", "rank", "categories"} < fields
    text = FINE_TUNING.read_text(encoding="utf-8")
    assert not {name for name in fields if not re.search(rf"\b{name}:", text)}  # of what is null, in its comment


def test_the_configuration_of_fine_tuning_has_what_published_recipes_set() -> None:
    config = read_config(FINE_TUNING, [])
    assert isinstance(config.model, PretrainedConfig)
    assert (config.model.pretrained, config.model.input_resolution) == ("florence-community/Florence-2-base", 768)
    train = config.train
    assert (train.lr, train.warmup_steps, train.batch_size, train.max_epochs) == (2e-5, 500, 8, 30)
    assert "text_prompt_templates" in yaml.safe_load(FINE_TUNING.read_text(encoding="utf-8"))["data"]
    assert config.crops.camera is not None  # a plant's own pictures have colour
    assert config.crops.template_share == 0  # and not every plant has pictures of sound boards


def test_what_comments_give_for_a_null_is_valid() -> None:
    tree, section, tried = read_config(FINE_TUNING, []).model_dump(mode="json"), "", []
    for line in FINE_TUNING.read_text(encoding="utf-8").splitlines():
        section = match[1] if (match := re.match(r"(\w+):", line)) else section
        if match := re.match(r"  (\w+): null # ([{\[].*[}\]]):", line):
            field, example = match[1], yaml.safe_load(match[2])
            assert tree[section][field] is None
            Config.model_validate(tree | {section: tree[section] | {field: example}})
            tried.append(field)
    wanted = ["text_prompt_templates", "replay", "colour_magnification", "paste", "class_weights", "early_stopping"]
    assert tried == wanted


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["model.input_resolution=1024"], ["1025 image tokens", "1024 positions", "928", "cut larger images"]),
        (["model.input_resolution=1024", "train.batch_size=0"], ["1025 image tokens", "train.batch_size"]),
        (["model.input_resolution=100"], ["multiple of 32"]),
        (["model.pretrained=microsoft/Florence-2-base-ft", "model.input_resolution=64"], ["boxes_per_tile 100"]),
    ],
)
def test_a_tile_that_a_published_network_has_no_places_for_is_refused_at_once(
    overrides: list[str], named: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        read_config(FINE_TUNING, overrides)
    for words in named:
        assert words in str(error.value)
    read_config(FINE_TUNING, ["model.input_resolution=928"])
    read_config(FINE_TUNING, [*overrides[:1], "model.pretrained=/models/of-another-shape"])  # its config.json tells


def test_overrides_replace_single_fields() -> None:
    config = read_config(CONFIGS[0], ["train.batch_size=3", "data.holdout_groups=[a, b]"])
    assert config.train.batch_size == 3
    assert config.data.holdout_groups == ("a", "b")


def test_every_fault_is_reported_together() -> None:
    with pytest.raises(ConfigError) as error:
        read_config(CONFIGS[0], ["train.batch_size=-1", "train.speed=11", "model.width=wide"])
    for field in ("train.batch_size", "train.speed", "model.width"):
        assert field in str(error.value)


@pytest.mark.parametrize("bounds", ["[1.7, 0.6]", "[0, 2]", "[1.5]"])
def test_magnifications_are_the_least_and_the_largest(bounds: str) -> None:
    with pytest.raises(ConfigError, match=r"crops\.colour_magnification"):
        read_config(CONFIGS[0], [f"crops.colour_magnification={bounds}"])


@pytest.mark.parametrize("override", ["nonsense", "train"])
def test_a_malformed_override_is_named(override: str) -> None:
    with pytest.raises(ConfigError, match=override):
        read_config(CONFIGS[0], [override])


@pytest.mark.parametrize(
    ("override", "named"),
    [("model.lora.rank=16", "model.lora"), ("out.x=1", "out"), ("name=[x", r"override 'name=\[x'")],
)
def test_an_override_of_what_has_no_fields_or_is_no_yaml_is_named(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(ROOT / "training" / "configs" / FORMS[1], [override])


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n"])
def test_a_file_that_holds_no_sections_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        read_config(file, [])


def test_early_stopping_of_the_decoder_alone_is_refused() -> None:
    stages = "train.stages=[{share: 1, mosaic: 0.0, decoder_only: true}]"
    with pytest.raises(ConfigError, match="early_stopping"):
        read_config(CONFIGS[0], [stages, "train.early_stopping={patience: 1, min_delta: 0.0}"])


def test_a_model_is_either_pretrained_or_built_from_scratch() -> None:
    scratch, pretrained = (read_config(ROOT / "training" / "configs" / name, []) for name in FORMS)
    assert isinstance(scratch.model, ModelConfig)
    assert isinstance(pretrained.model, PretrainedConfig)
    assert pretrained.model.tile_size == pretrained.model.input_resolution == 768
    for config in (scratch, pretrained):
        assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_mixture_of_both_is_refused_field_by_field() -> None:
    with pytest.raises(ConfigError) as error:
        read_config(ROOT / "training" / "configs" / FORMS[1], ["model.width=192", "model.tile_size=256"])
    for field in ("model.width:", "model.tile_size:"):
        assert field in str(error.value)
    with pytest.raises(ConfigError, match=r"model\.input_resolution:"):
        read_config(ROOT / "training" / "configs" / FORMS[0], ["model.pretrained=somewhere"])


def test_adapters_and_a_stage_of_the_whole_decoder_exclude_each_other() -> None:
    overrides = [
        "model.lora={rank: 4, alpha: 8, dropout: 0.0, target_modules: [q_proj]}",
        "train.stages=[{share: 1, mosaic: 0.0, decoder_only: true}]",
    ]
    with pytest.raises(ConfigError, match=r"model\.lora"):
        read_config(ROOT / "training" / "configs" / FORMS[1], overrides)
    read_config(ROOT / "training" / "configs" / FORMS[1], overrides[:1])


def test_outlines_are_learned_by_the_decoder_alone() -> None:
    config, stage = ROOT / "training" / "configs" / FORMS[0], "{share: 1, mosaic: 0.0}"
    with pytest.raises(ConfigError, match="outline_share"):
        read_config(config, ["train.outline_share=0.5", f"train.stages=[{stage}]"])
    read_config(config, ["train.outline_share=0.5"])
    read_config(config, [f"train.stages=[{stage}]"])


def test_a_learning_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.matrix_lr"):
        read_config(ROOT / "training" / "configs" / FORMS[1], ["train.matrix_lr=0"])


def test_a_run_without_anything_to_judge_by_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing judges"):
        read_config(CONFIGS[0], ["data.holdout_groups=[]", "data.holdout=[]"])
    read_config(CONFIGS[0], ["data.holdout_groups=[]", "data.holdout=[{path: val.json}]"])


def test_what_judges_counts_once() -> None:
    read_config(CONFIGS[0], ["data.sources=[{path: train.json, repeat: 2}]"])
    with pytest.raises(ConfigError, match=r"data\.holdout.*repeat"):
        read_config(CONFIGS[0], ["data.holdout=[{path: val.json, repeat: 2}]"])


@pytest.mark.parametrize("template", ["find it", "{label} and {label}"])
def test_a_template_without_exactly_one_label_is_named(template: str) -> None:
    with pytest.raises(ConfigError, match=r"text_prompt_templates\.en.*exactly once") as error:
        read_config(CONFIGS[0], [f"data.text_prompt_templates={{en: ['{template}', '{{label}}'], zh: ['{{label}}']}}"])
    assert template in str(error.value)
