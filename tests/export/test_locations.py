import numpy as np

from export.contract.locations import NUM_BINS, dequantise, quantise


def test_a_box_comes_back_within_half_a_bin() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 1, (200, 4)).astype(np.float32) * np.array([640, 480, 640, 480], np.float32)
    back = dequantise(quantise(boxes, (640, 480)), (640, 480))
    assert (np.abs(back - boxes) <= np.array([640, 480, 640, 480]) / NUM_BINS / 2 + 1e-4).all()


def test_edges_fall_into_the_outermost_bins() -> None:
    assert quantise(np.array([-5.0, 0.0, 640.0, 700.0]), (640, 640)).tolist() == [0, 0, 999, 999]
