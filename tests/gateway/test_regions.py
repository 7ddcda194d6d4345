import numpy as np
import pytest

from export.contract.boxes import Detections
from gateway.models.acceptance import Acceptance
from gateway.request.regions import inside, read_regions, touched

SQUARE = ((10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0))
L_SHAPE = ((0.0, 0.0), (10.0, 0.0), (10.0, 4.0), (4.0, 4.0), (4.0, 10.0), (0.0, 10.0))


def test_read_regions_takes_json_and_lists_alike() -> None:
    expected = (SQUARE, ((0.0, 0.0), (5.0, 0.0), (5.0, 5.0)))
    assert read_regions("[[10, 10, 20, 20], [[0, 0], [5, 0], [5, 5]]]") == expected
    assert read_regions([[10, 10, 20, 20], [[0, 0], [5, 0], [5, 5]]]) == expected
    assert read_regions("[]") == ()


@pytest.mark.parametrize(
    "value",
    [
        "", "x", "5", "[5]", "[[1, 2, 3]]", "[[4, 2, 3, 5]]", '[[1, 2, 3, "4"]]', "[[1, 2, 3, NaN]]",
        "[[1, 2, 3, true]]",
        "[[[1, 2], [3, 4]]]", "[[[1, 2], [3, 4], [5]]]", "[" * 9999, f"[[1, 2, 3, {'9' * 400}]]", [None], {"x": 1}, 7,
    ],
)  # fmt: skip
def test_read_regions_refuses_what_is_none(value: object) -> None:
    with pytest.raises(ValueError, match="expected a JSON list"):
        read_regions(value)


def test_read_regions_names_every_fault_and_bounds_their_number() -> None:
    with pytest.raises(ValueError, match="region 0 is no region, region 2 is no region"):
        read_regions([[1], [0, 0, 1, 1], [[1, 1]]])
    with pytest.raises(ValueError, match="65 regions"):
        read_regions([[0, 0, 1, 1]] * 65)


def test_inside_knows_concave_polygons() -> None:
    points = np.array([[2, 2], [8, 2], [2, 8], [8, 8], [-1, 2], [2, 11]])
    assert inside(points, [L_SHAPE]).tolist() == [True, True, True, False, False, False]
    assert inside(points, [L_SHAPE, ((7.0, 7.0), (9.0, 7.0), (9.0, 9.0), (7.0, 9.0))])[3]


def test_inside_counts_a_shared_edge_once() -> None:
    """Two rectangles side by side: a point on the line between them lies in exactly one."""
    left, right = read_regions([[0, 0, 5, 5], [5, 0, 10, 5]])
    points = np.array([[5.0, 1.0], [5.0, 2.5]])
    assert (inside(points, [left]).astype(int) + inside(points, [right])).tolist() == [1, 1]


def test_touched_is_what_a_region_reaches_into() -> None:
    origins = np.array([[0, 0], [8, 8], [20, 10], [100, 100]])
    assert touched(origins, 10, (200, 200), [SQUARE]).tolist() == [False, True, False, False]
    assert not touched(origins, 10, (10, 200), [SQUARE]).any()  # what lies beyond the image shows nothing


def test_acceptance_asks_for_size_and_place() -> None:
    found = Detections(
        np.array([[12, 12, 18, 18], [12, 12, 14, 40], [30, 30, 40, 40], [14, 14, 17, 19]], np.float32),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        np.array([0, 0, 1, 1]),
    )
    assert Acceptance([0, 0]).of(found).scores.tolist() == found.scores.tolist()
    by_size = Acceptance([5, 3]).of(found)  # the shorter side counts, and each class has its own minimum
    assert by_size.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    within = Acceptance([0, 0], regions=(SQUARE,)).of(found)  # the second reaches out, and its centre lies outside
    assert within.scores.tolist() == pytest.approx([0.9, 0.6])
    without = Acceptance([0, 0], excluded_regions=(SQUARE,)).of(found)
    assert without.scores.tolist() == pytest.approx([0.8, 0.7])
