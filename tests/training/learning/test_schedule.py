import pytest

from tests.conftest import ROOT
from training.config import ConfigError, TrainConfig, read_config
from training.learning.schedule import Schedule, plan

CONFIGS = ROOT / "training" / "configs"


def train(*overrides: str) -> TrainConfig:
    return read_config(CONFIGS / "deeppcb_tiny.yaml", [f"train.{override}" for override in overrides]).train


def ends(schedule: Schedule) -> list[int]:
    return [stage.end_step for stage in schedule.stages]


def test_the_shipped_configurations_have_their_steps() -> None:
    learned = 950  # of DeepPCB's 1,000 boards, without the group that judges
    assert ends(plan(train(), learned, 256)) == [2000, 5200, 6400]
    assert plan(train(), learned, 256).joint_steps == 5200
    fine_tuning = read_config(CONFIGS / "florence2_finetune.yaml", []).train
    assert plan(fine_tuning, learned, 768).steps == 3562  # 30 x 950 / 8 = 3562.5, to even


def test_an_epoch_is_as_many_crops_as_pictures_over_all_processes() -> None:
    config = train("max_epochs=3", "batch_size=4", "accumulation=2", "stages=[{share: 1, mosaic: 0}]")
    assert plan(config, 80, 256).steps == 30
    assert plan(config, 80, 256, processes=3).steps == 10


@pytest.mark.parametrize(
    ("epochs", "shares", "expected"),
    [
        ("1.1", (1,), [110]),  # 1.1 x 100 is 110.00000000000001 in floats
        ("0.015", (1,), [2]),  # 1.5 steps, to even
        ("0.1", (0.1, 0.2, 0.7), [1, 3, 10]),  # 0.1 + 0.2 + 0.7 is 0.9999999999999999 in floats
        ("0.1", (0.25, 0.25, 0.25, 0.25), [2, 5, 8, 10]),  # each end is rounded, not each length
    ],
)
def test_rounding_is_exact_in_decimals(epochs: str, shares: tuple[float, ...], expected: list[int]) -> None:
    stages = ", ".join(f"{{share: {share}, mosaic: 0}}" for share in shares)
    config = train(f"max_epochs={epochs}", "batch_size=1", f"stages=[{stages}]")
    assert ends(plan(config, 100, 256)) == expected


def test_every_step_belongs_to_the_stage_that_it_is_in() -> None:
    stages = "stages=[{share: 0.5, mosaic: 0.5, input_resolution: 128}, {share: 0.5, mosaic: 0, decoder_only: true}]"
    schedule = plan(train("max_epochs=1", "batch_size=1", stages), 4, 256)
    assert [schedule.stage(step).crop_size for step in range(4)] == [128, 128, 256, 256]
    assert [schedule.stage(step).decoder_only for step in range(4)] == [False, False, True, True]
    assert (schedule.steps, schedule.joint_steps) == (4, 2)


def test_a_stage_without_a_step_is_named() -> None:
    config = train("max_epochs=1", "batch_size=4", "stages=[{share: 0.96, mosaic: 0}, {share: 0.04, mosaic: 0}]")
    with pytest.raises(ConfigError, match=r"train\.stages\[1\].*10 steps"):
        plan(config, 40, 256)
    with pytest.raises(ConfigError, match=r"train\.stages\[0\].*max_epochs"):
        plan(train("max_epochs=0.001"), 40, 256)


def test_shares_that_are_no_whole_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sum to 0\.9"):
        train("stages=[{share: 0.4, mosaic: 0}, {share: 0.5, mosaic: 0}]")
