import numpy as np
import pytest

from export.contract.boxes import AT_ONCE, Detections, iou_matrix, nms


def random_detections(seed: int, count: int = 60) -> Detections:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 80, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)
    return Detections(boxes, rng.random(count).astype(np.float32), rng.integers(0, 3, count))


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_iou_of_half_overlapping_squares_is_a_third() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], np.float32)
    assert iou_matrix(a, b)[0] == pytest.approx([1 / 3, 0, 1])


@pytest.mark.parametrize(("seed", "count"), [*((seed, 80) for seed in range(20)), (20, AT_ONCE + 1)])
def test_nms_equals_the_definition(seed: int, count: int) -> None:
    found = random_detections(seed, count)
    kept: list[int] = []
    for index in np.argsort(-found.scores, kind="stable"):
        if all(
            found.class_ids[index] != found.class_ids[other]
            or plain_iou(found.boxes_xyxy[index], found.boxes_xyxy[other]) <= 0.3
            for other in kept
        ):
            kept.append(int(index))
    result = nms(found, 0.3, 1000)
    np.testing.assert_array_equal(result.boxes_xyxy, found.boxes_xyxy[kept])
    np.testing.assert_array_equal(result.scores, found.scores[kept])


def test_nms_keeps_the_best_when_there_are_too_many() -> None:
    found = random_detections(1)
    everything = nms(found, 0.3, 1000)
    np.testing.assert_array_equal(nms(found, 0.3, 5).scores, everything.scores[:5])


def test_nms_of_nothing_is_nothing() -> None:
    assert len(nms(random_detections(0, count=0), 0.3, 10)) == 0
