import numpy as np
import pytest

from export.contract.boxes import Detections, iou_matrix, nms
from export.contract.fusion import merge_boxes, soft_nms, weighted_box_fusion
from tests.export.test_boxes import random_detections


def detections(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, class_ids = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int64))


# Two squares that overlap by a third, of one class or of two, and one far away.
PAIR = detections(([0, 0, 10, 10], 0.8, 0), ([5, 0, 15, 10], 0.6, 0), ([50, 50, 60, 60], 0.7, 0))
TWO_CLASSES = Detections(PAIR.boxes_xyxy, PAIR.scores, np.array([0, 1, 0]))


def test_soft_nms_lessens_the_lesser_of_two_by_the_papers_formula() -> None:
    found = soft_nms(PAIR, 10)
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.6 * np.exp(-((1 / 3) ** 2) / 0.5)], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes_xyxy, PAIR.boxes_xyxy[[0, 2, 1]])


@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_equals_the_definition(seed: int) -> None:
    found = random_detections(seed)
    scores = found.scores.astype(np.float64)
    left = list(range(len(scores)))
    expected = []
    while left:
        best = max(left, key=lambda row: scores[row])
        left.remove(best)
        expected.append((best, scores[best]))
        for row in left:
            if found.class_ids[row] == found.class_ids[best]:
                overlap = float(iou_matrix(found.boxes_xyxy[[best]], found.boxes_xyxy[[row]])[0, 0])
                scores[row] *= np.exp(-(overlap**2) / 0.5)
    result = soft_nms(found, 1000)
    np.testing.assert_allclose(result.scores, [score for _, score in expected], rtol=1e-4)
    np.testing.assert_array_equal(result.boxes_xyxy, found.boxes_xyxy[[row for row, _ in expected]])


def test_fusion_gives_the_mean_weighted_by_score() -> None:
    found = weighted_box_fusion(PAIR, 0.3, 10)
    expected = (0.8 * np.array([0, 0, 10, 10]) + 0.6 * np.array([5, 0, 15, 10])) / 1.4
    np.testing.assert_allclose(found.boxes_xyxy, [expected, [50, 50, 60, 60]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.8, 0.7])


def test_fusion_compares_with_the_mean_so_far_not_with_the_first_box() -> None:
    """The third box overlaps the mean of the first two by more than the threshold, the first one by less."""
    found = detections(([0, 0, 10, 10], 0.5, 0), ([4, 0, 14, 10], 0.5, 0), ([6, 0, 16, 10], 0.5, 0))
    assert float(iou_matrix(found.boxes_xyxy[:1], found.boxes_xyxy[2:])[0, 0]) < 0.4
    fused = weighted_box_fusion(found, 0.4, 10)
    np.testing.assert_allclose(fused.boxes_xyxy, [[10 / 3, 0, 40 / 3, 10]], rtol=1e-6)


def test_fusion_below_the_threshold_leaves_boxes_alone() -> None:
    found = random_detections(3)
    np.testing.assert_allclose(
        weighted_box_fusion(found, 1.0, 1000).boxes_xyxy, found.boxes_xyxy[np.argsort(-found.scores)], rtol=1e-6
    )


@pytest.mark.parametrize("merging", ["nms", "wbf"])
def test_classes_are_merged_apart_unless_told_otherwise(merging: str) -> None:
    apart = merge_boxes(TWO_CLASSES, merging, iou_threshold=0.3, max_detections=10)  # type: ignore[arg-type]
    assert apart.class_ids.tolist() == [0, 0, 1]
    together = merge_boxes(
        TWO_CLASSES,
        merging,
        iou_threshold=0.3,
        max_detections=10,
        class_agnostic=True,  # type: ignore[arg-type]
    )
    assert together.class_ids.tolist() == [0, 0]  # the best keeps its class
    assert together.scores.tolist() == pytest.approx([0.8, 0.7])


def test_soft_nms_of_two_classes_lessens_only_when_told() -> None:
    assert soft_nms(TWO_CLASSES, 10).scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert soft_nms(TWO_CLASSES, 10, class_agnostic=True).scores[2] < 0.6


@pytest.mark.parametrize("merging", ["nms", "soft_nms", "wbf"])
def test_merging_nothing_is_nothing_and_too_much_is_cut(merging: str) -> None:
    nothing = random_detections(0, count=0)
    assert len(merge_boxes(nothing, merging, iou_threshold=0.3, max_detections=10)) == 0  # type: ignore[arg-type]
    some = merge_boxes(random_detections(1), merging, iou_threshold=0.3, max_detections=3)  # type: ignore[arg-type]
    assert len(some) == 3
    assert (np.diff(some.scores) <= 0).all()


def test_nms_of_all_classes_together_keeps_no_two_that_overlap() -> None:
    kept = nms(random_detections(2), 0.3, 1000, class_agnostic=True)
    overlaps = iou_matrix(kept.boxes_xyxy, kept.boxes_xyxy)
    assert (overlaps[~np.eye(len(kept), dtype=bool)] <= 0.3).all()
