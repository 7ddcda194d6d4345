import numpy as np
import pytest

from export.contract.boxes import Detections
from training.metrics import Truth, evaluate_detections, right_boxes

NAMES = ("open", "short")
TRUTH = Truth(np.array([[10, 10, 50, 50], [100, 100, 140, 140]], np.float32), np.array([0, 1]))
EMPTY = Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_perfect_detections_score_one() -> None:
    found = detections((10, 10, 50, 50, 0.9, 0), (100, 100, 140, 140, 0.8, 1))
    figures = evaluate_detections([TRUTH, EMPTY], [found, detections()], NAMES)
    assert (figures.map50, figures.map50_95, figures.best_f1) == pytest.approx((1, 1, 1))
    assert figures.score_threshold == pytest.approx(0.8)


def test_a_class_that_no_picture_shows_has_no_figure() -> None:
    figures = evaluate_detections([TRUTH], [detections((10, 10, 50, 50, 0.9, 0))], (*NAMES, "spur"))
    assert figures.map50 == pytest.approx(0.5)
    assert figures.as_json()["ap50"] == {"open": 1.0, "short": 0.0, "spur": None}


def test_no_detection_scores_nothing_in_the_classes_that_pictures_show() -> None:
    figures = evaluate_detections([TRUTH], [detections()], (*NAMES, "spur"))
    assert (figures.map50, figures.map50_95, figures.best_f1) == (0, 0, 0)
    assert figures.as_json()["ap50"] == {"open": 0.0, "short": 0.0, "spur": None}


@pytest.mark.parametrize("found", [detections(), detections((10, 10, 50, 50, 0.9, 0))], ids=["nothing", "a box"])
def test_where_no_picture_shows_a_class_there_is_no_mean(found: Detections) -> None:
    figures = evaluate_detections([EMPTY], [found], NAMES).as_json()
    assert (figures["map50"], figures["map50_95"], figures["ap50"]) == (None, None, {"open": None, "short": None})


def test_a_wrong_class_and_a_false_call_cost() -> None:
    found = detections((10, 10, 50, 50, 0.9, 1), (100, 100, 140, 140, 0.5, 1))
    figures = evaluate_detections([TRUTH], [found], NAMES)
    assert figures.ap50["open"] == 0
    # The false call ranks first: precision 1/2 at every recall of the class.
    assert figures.ap50["short"] == pytest.approx(0.5)
    assert figures.best_f1 == pytest.approx(2 * 1 / (2 + 2))


def test_an_overlap_of_0_4_counts_for_f1_but_not_for_map50() -> None:
    found = detections((10, 10, 50, 26, 0.9, 0))  # IoU 0.4
    figures = evaluate_detections([TRUTH], [found], NAMES)
    assert figures.ap50["open"] == 0
    assert figures.best_f1 == pytest.approx(2 / 3)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 lists"):
        evaluate_detections([TRUTH], [detections(), detections()], NAMES)


def test_right_boxes_finds_each_defect_once_and_in_its_class_only() -> None:
    corners = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    truth = Truth(corners, np.array([0, 1]))
    proposed = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60], [50, 50, 60, 61]], np.float32)
    found = Detections(proposed, np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([0, 0, 0, 1]))
    assert right_boxes(truth, found).tolist() == [True, False, False, True]
    assert right_boxes(Truth(corners[:0], np.zeros(0, np.int64)), found).tolist() == [False] * 4
    assert right_boxes(truth, found.take(np.zeros(4, bool))).tolist() == []
