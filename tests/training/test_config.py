from pathlib import Path

import pytest

from tests.conftest import ROOT
from training.config import Config, ConfigError, ModelConfig, PretrainedConfig, read_config

CONFIGS = sorted((ROOT / "training" / "configs").rglob("*.yaml"))
FORMS = ("deeppcb_tiny.yaml", "florence2_finetune.yaml")


def test_there_are_configurations() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_opens_with_its_command(path: Path) -> None:
    read_config(path, [])
    assert f"--config training/configs/{path.name}" in path.read_text()


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
