from pathlib import Path

import pytest

from tests.conftest import ROOT
from training.config import ConfigError, read_config

CONFIGS = sorted((ROOT / "training" / "configs").rglob("*.yaml"))


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


@pytest.mark.parametrize("override", ["nonsense", "train"])
def test_a_malformed_override_is_named(override: str) -> None:
    with pytest.raises(ConfigError, match=override):
        read_config(CONFIGS[0], [override])
