"""The top-hat, against OpenCV's, at every position of a box within the picture and every size of disc."""

import cv2
import numpy as np
import pytest

from gateway.pictures.top_hat import top_hat


@pytest.mark.parametrize("seed", range(200))
def test_a_top_hat_is_opencvs_to_the_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(6, 60, 2)
    planes = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
    x1, x2 = sorted(rng.choice(width + 1, 2, replace=False).tolist())
    y1, y2 = sorted(rng.choice(height + 1, 2, replace=False).tolist())
    diameter = 2 * int(rng.integers(1, 20)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    opencvs = np.stack([cv2.morphologyEx(plane, cv2.MORPH_TOPHAT, disc) for plane in planes])
    np.testing.assert_array_equal(top_hat(planes, (x1, y1, x2, y2), diameter), opencvs[:, y1:y2, x1:x2])
