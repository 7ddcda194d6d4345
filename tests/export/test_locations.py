import numpy as np

from export.contract.locations import NUM_BINS, dequantise, dequantise_outline, quantise, quantise_outline


def test_a_box_comes_back_within_half_a_bin() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 1, (200, 4)).astype(np.float32) * np.array([640, 480, 640, 480], np.float32)
    back = dequantise(quantise(boxes, (640, 480)), (640, 480))
    assert (np.abs(back - boxes) <= np.array([640, 480, 640, 480]) / NUM_BINS / 2 + 1e-4).all()


def test_edges_fall_into_the_outermost_bins() -> None:
    assert quantise(np.array([-5.0, 0.0, 640.0, 700.0]), (640, 640)).tolist() == [0, 0, 999, 999]


def test_an_outline_is_told_in_fractions_of_its_region_and_the_room_around_it() -> None:
    region = np.array([100, 200, 500, 600])
    points = np.array([[0.1005, 0.2005], [0.5005, 0.4005], [0.0505, 0.6505]])
    bins = quantise_outline(points, region)
    np.testing.assert_allclose(bins, [[100, 100], [900, 500], [0, 999]], atol=1)
    np.testing.assert_allclose(dequantise_outline(bins, region), points, atol=0.0003)
    far = dequantise_outline(quantise_outline(np.array([[-1.0, 2.0]]), region), region)
    np.testing.assert_allclose(far, [[0.0505, 0.6505]], atol=0.001)  # no farther than the room


def test_a_region_without_extent_still_has_a_frame() -> None:
    region = np.array([7, 7, 7, 7])
    points = dequantise_outline(np.array([[0, 0], [999, 999]]), region)
    assert np.isfinite(points).all()
    assert (points[1] > points[0]).all()
