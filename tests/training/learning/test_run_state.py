import json
import resource
from pathlib import Path

import pytest

from tests.training.small_run import CONFIG, settings
from training.config import Config, ConfigError, read_config
from training.learning.run_state import RECORD, open_folder, read_state, write_state


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Of a run of 4 steps that has saved a state at the second."""
    config = read_config(CONFIG, settings(tmp_path / "data", tmp_path / "run"))
    open_folder(config)
    write_state(config.out, {"step": 2, "steps": 4, "labels": "a"})
    return config


def change_record(config: Config, without: str = "", **crops: float) -> None:
    """As another version would have written it: with these fields of `crops`, without one."""
    record = json.loads((config.out / RECORD).read_text())
    record["crops"] = {name: value for name, value in (record["crops"] | crops).items() if name != without}
    (config.out / RECORD).write_text(json.dumps(record))


def test_a_run_goes_on_from_its_state_with_any_number_of_threads(config: Config) -> None:
    assert read_state(config, 4, "a") == {"step": 2, "steps": 4, "labels": "a"}
    faster = config.model_copy(update={"train": config.train.model_copy(update={"threads": 2})})
    assert read_state(faster, 4, "a") == {"step": 2, "steps": 4, "labels": "a"}


def test_a_record_older_than_a_field_says_its_default(config: Config) -> None:
    change_record(config, without="flips")
    assert read_state(config, 4, "a") is not None
    upright = config.model_copy(update={"crops": config.crops.model_copy(update={"flips": False})})
    with pytest.raises(ConfigError, match="another configuration"):
        read_state(upright, 4, "a")


def test_a_full_disk_leaves_the_record_of_a_run_whole(config: Config) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))  # bytes a file
    try:
        with pytest.raises(OSError, match="too large"):
            open_folder(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_state(config, 4, "a") is not None


@pytest.mark.parametrize("crops", [{"near_defect": 0.123}, {"cut_in_squares": 1}])
def test_a_record_that_says_something_else_is_another_runs(config: Config, crops: dict[str, float]) -> None:
    change_record(config, **crops)
    with pytest.raises(ConfigError, match="another configuration"):
        read_state(config, 4, "a")


def test_a_run_of_another_length_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="a run of 4 steps, expected 5"):
        read_state(config, 5, "a")


def test_a_run_whose_labels_have_changed_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="labels"):
        read_state(config, 4, "b")
