"""What the gateway reads from a model's configuration."""

import pytest

from export.contract.tensors import Dimensions
from gateway.errors import UnavailableError
from gateway.models.served import Served, read_score_thresholds


def test_each_class_has_its_own_threshold_and_other_words_the_default() -> None:
    thresholds = read_score_thresholds('{"default": 0.4, "open": 0.9, "short": 1}')
    served = Served("1", "tiny", "00ff", Dimensions(128, 64, 20), ("open", "short", "spur"), thresholds)
    asked = ["open", "short", "spur", "scratch", None]
    assert [served.score_threshold(defect) for defect in asked] == [0.9, 1.0, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.5",
        "[0.5]",
        '{"open": 0.5}',
        '{"default": 1.5}',
        '{"default": 0.5, "open": "high"}',
        '{"default": 0.5, "open": null}',
        '{"default": NaN}',
    ],
)
def test_thresholds_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(UnavailableError, match="score_thresholds"):
        read_score_thresholds(text)
