"""Which answers are worth a look."""

import pytest

from gateway.review.sampling import Reason, reason_of, share_of
from tests.gateway.review.test_store import answer_of


@pytest.mark.parametrize(
    ("threshold", "share", "reason"),
    [(0.46, 0.0, "near_threshold"), (0.54, 0.0, "near_threshold"), (0.44, 1.0, "random"), (0.56, 0.0, None)],
)
def test_a_score_near_its_own_threshold_goes_before_chance(threshold: float, share: float, reason: Reason) -> None:
    answer = answer_of("a", "short", "spur")  # both at 0.5
    assert reason_of(answer, [0.1, threshold], 0.05, share) == reason


def test_an_answer_without_detections_is_looked_at_by_chance_only() -> None:
    assert reason_of(answer_of("a"), [], 1.0, 0.0) is None
    assert reason_of(answer_of("a"), [], 0.0, 1.0) == "random"


def test_chance_takes_its_share_of_any_kind_of_request_ids() -> None:
    for kind in ("board-{}", "line4.{}-0", "{:032x}"):
        taken = sum(share_of(kind.format(number)) < 0.1 for number in range(5000))
        assert 400 < taken < 600
