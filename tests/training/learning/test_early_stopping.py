from training.config import EarlyStoppingConfig
from training.learning.early_stopping import EarlyStopping

RULE = EarlyStoppingConfig(patience=2, min_delta=0.01)


def judged(*map50: float, rule: EarlyStoppingConfig = RULE) -> tuple[EarlyStopping, list[bool]]:
    """The validations of steps 1, 2, ... taken up, and which of them were the best so far."""
    stopping = EarlyStopping()
    return stopping, [stopping.judge(step, value, rule) for step, value in enumerate(map50, start=1)]


def test_the_first_validation_is_the_best_so_far_even_at_zero() -> None:
    stopping, kept = judged(0.0)
    assert kept == [True]
    assert not stopping.is_over(RULE)


def test_it_is_over_after_that_many_validations_without_a_rise() -> None:
    assert not judged(0.5, 0.4)[0].is_over(RULE)
    stopping, kept = judged(0.5, 0.4, 0.5)
    assert stopping.is_over(RULE)
    assert kept == [True, False, False]
    assert stopping.best_step == 1


def test_a_rise_starts_the_waiting_anew() -> None:
    assert not judged(0.5, 0.4, 0.6, 0.5)[0].is_over(RULE)


def test_a_small_rise_is_kept_but_does_not_count() -> None:
    stopping, kept = judged(0.5, 0.505, 0.509)
    assert kept == [True, True, True]
    assert (stopping.best_step, stopping.best_map50) == (3, 0.509)
    assert stopping.is_over(RULE)


def test_small_rises_that_add_up_count() -> None:
    assert not judged(0.5, 0.506, 0.512, 0.518)[0].is_over(RULE)


def test_without_a_smallest_rise_standing_still_counts_as_none() -> None:
    rule = EarlyStoppingConfig(patience=1, min_delta=0)
    assert judged(0.5, 0.5, rule=rule)[0].is_over(rule)


def test_it_goes_on_from_its_numbers() -> None:
    stopping, _ = judged(0.5, 0.4)
    resumed = EarlyStopping(**vars(stopping))
    assert not resumed.judge(3, 0.45, RULE)
    assert resumed.is_over(RULE)
