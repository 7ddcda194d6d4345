import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.calibration import (
    LEVELS,
    NEVER,
    Boxes,
    Platt,
    boards_needed,
    class_thresholds,
    expected_calibration_error,
    false_call_shares,
    find_level,
    fit_classes,
    fit_platt,
    is_reported,
    log_evidence,
    split_boards,
)


def draw_boxes(count: int, distortion: Platt, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of which a known distortion hides the true probabilities."""
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0.02, 0.98, count)
    undo = Platt(1 / distortion.scale, -distortion.bias / distortion.scale)
    return undo.apply(probabilities), rng.random(count) < probabilities


def boxes_of(rows: list[tuple[int, int, float, bool]]) -> Boxes:
    boards, classes, scores, right = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Boxes(
        np.array(boards, np.int64), np.array(classes, np.int64), np.array(scores, np.float32), np.array(right, bool)
    )


@pytest.mark.parametrize("distortion", [Platt(3.0, 0.5), Platt(0.4, -2.0), Platt(1.0, 0.0)])
def test_fit_platt_recovers_a_known_distortion(distortion: Platt) -> None:
    scores, right = draw_boxes(40_000, distortion, seed=1)
    found = fit_platt(scores, right)
    assert found.scale == pytest.approx(distortion.scale, rel=0.05)
    assert found.bias == pytest.approx(distortion.bias, abs=0.1)
    assert expected_calibration_error(found.apply(scores), right) < 0.02


@pytest.mark.parametrize("right", [True, False])
def test_fit_platt_stays_finite_where_all_boxes_are_alike(right: bool) -> None:
    scores = np.array([0.2, 0.5, 1.0, 0.0, 0.9])
    found = fit_platt(scores, np.full(5, right))
    shift = found.apply(scores) - scores
    assert np.isfinite([found.scale, found.bias]).all()
    assert (shift[:2] > 0).all() == right


def test_score_at_is_the_inverse_of_apply() -> None:
    platt = Platt(2.5, -0.7)
    for probability in (0.01, 0.5, 0.99):
        assert platt.apply(np.array([platt.score_at(probability)]))[0] == pytest.approx(probability)
    assert Platt(-1.0, 0.0).score_at(0.5) == NEVER


def test_calibration_error_is_the_one_computed_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.7, 0.3])
    right = np.array([True, False, False, False])
    # Bins of two: scores .1 .3, none right: gap 0.2; scores .7 .9, half right: gap 0.3.
    assert expected_calibration_error(scores, right, num_bins=2) == pytest.approx(0.25)
    assert math.isnan(expected_calibration_error(scores[:0], right[:0]))


def test_false_call_shares_count_each_board_alike() -> None:
    boxes = boxes_of([(0, 0, 0.9, True), (0, 1, 0.8, False), (2, 0, 0.9, False), (5, 0, 0.9, False)])
    np.testing.assert_allclose(false_call_shares(boxes, np.array([0, 1, 2])), [0.5, 0.0, 1.0])
    np.testing.assert_allclose(false_call_shares(boxes_of([]), np.array([0, 3])), [0.0, 0.0])


def test_log_evidence_is_the_one_computed_by_hand() -> None:
    assert log_evidence(np.array([0.0, 0.0, 0.5]), 0.1) == pytest.approx(math.log(1.1 * 1.1 * 0.6))
    assert log_evidence(np.array([1.0, 0.0]), 0.0) == -math.inf


def test_boards_needed_are_just_enough() -> None:
    needed = boards_needed(0.023, 0.9)
    assert needed == 102
    assert log_evidence(np.zeros(needed), 0.023) >= math.log(10) > log_evidence(np.zeros(needed - 1), 0.023)
    assert boards_needed(0.0, 0.9) is None


def test_find_level_breaks_the_budget_no_more_often_than_it_says() -> None:
    """The true share at level l is 0.3 (1 - l): above a budget of 0.06 below l = 0.8."""
    budget, confidence, levels = 0.06, 0.8, np.arange(0.98, 0.0, -0.02)
    broken, passed = 0, 0
    for seed in range(300):
        draws = np.random.default_rng(seed).random(300)  # of 300 boards: a looser level adds false calls

        def shares_at(level: float, draws: NDArray[np.float64] = draws) -> NDArray[np.float64]:
            return 0.3 * (draws < 1 - level)

        level = find_level(shares_at, budget, confidence, levels)
        passed += level is not None
        broken += level is not None and 0.3 * (1 - level) > budget + 1e-9
    assert passed > 290  # a bound that refuses everything would hold, too
    assert broken / 300 <= 1 - confidence + 0.03
    assert broken > 0  # and this simulation can tell


def test_whole_boards_of_false_calls_do_not_break_the_guarantee() -> None:
    """The worst case for a bound on boards: with the true share just above the budget a board is right or all wrong."""
    budget, confidence = 0.05, 0.9
    shares = np.random.default_rng(0).random((2000, 150)) < budget * 1.001
    passes = sum(log_evidence(row.astype(float), budget) >= -math.log(1 - confidence) for row in shares)
    assert 0 < passes / 2000 <= 1 - confidence


@pytest.mark.parametrize(("budget", "expected"), [(0.0, None), (1.0, LEVELS[-1])])
def test_find_level_at_the_ends_of_the_budget(budget: float, expected: float | None) -> None:
    assert find_level(lambda _: np.full(50, 0.5), budget, 0.9) == expected


def test_find_level_stops_at_the_first_failure() -> None:
    shares = {0.9: 0.0, 0.8: 1.0, 0.7: 0.0}
    assert find_level(lambda level: np.full(100, shares[level]), 0.1, 0.9, (0.9, 0.8, 0.7)) == 0.9
    assert find_level(lambda _: np.ones(100), 0.1, 0.9) is None


def test_a_class_with_worse_boxes_gets_a_stricter_threshold_and_one_without_right_boxes_none() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.1, 0.9, 3000).astype(np.float32)
    classes = np.arange(3000) % 3
    right = rng.random(3000) < scores * np.array([1.0, 0.5, 0.0])[classes]
    worth = fit_classes(Boxes(np.zeros(3000, np.int64), classes, scores, right), 3)
    thresholds = class_thresholds(worth, 0.4, lowest=0.01)
    assert thresholds[0] == pytest.approx(0.4, abs=0.1)
    assert thresholds[0] + 0.15 < thresholds[1] < NEVER
    assert thresholds[2] == NEVER
    assert class_thresholds(worth, 1e-6, lowest=0.01)[0] == np.float32(0.01)


def test_is_reported_compares_with_the_threshold_of_the_class() -> None:
    boxes = boxes_of([(0, 0, 0.5, True), (0, 1, 0.5, True), (0, 1, 0.6, True)])
    assert is_reported(boxes, np.array([0.5, 0.6], np.float32)).tolist() == [True, False, True]


@pytest.mark.parametrize(("num_groups", "unit"), [(11, "boards"), (30, "groups")])
def test_split_boards_keeps_groups_whole_where_there_are_enough(num_groups: int, unit: str) -> None:
    groups = [f"{index % num_groups:05d}" for index in range(240)]
    parts = split_boards(groups, 0.5, seed=4)
    every = np.concatenate([parts.fit, parts.test, parts.judging])
    assert sorted(every) == list(range(240))
    assert parts.unit == unit
    assert len(parts.judging) == pytest.approx(120, abs=8)
    assert len(parts.fit) == pytest.approx(18, abs=8)
    names = [{groups[index] for index in part} for part in (parts.fit, parts.test, parts.judging)]
    whole = not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert whole == (unit == "groups")


def test_boards_of_no_known_group_are_no_group() -> None:
    groups = [f"{index % 30:05d}" for index in range(90)] + [""] * 150
    sizes = [len(split_boards(groups, 0.5, seed).judging) for seed in range(8)]
    assert sizes == pytest.approx([120] * 8, abs=8)


def test_split_boards_is_seeded_and_gives_every_part_a_board() -> None:
    groups = ["11111"] * 3
    parts = split_boards(groups, 0.5, seed=0)
    assert [len(part) for part in (parts.fit, parts.test, parts.judging)] == [1, 1, 1]
    draws = [split_boards(["1"] * 50, 0.5, seed).judging.tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(ValueError, match="2 boards"):
        split_boards(groups[:2], 0.5, seed=0)
