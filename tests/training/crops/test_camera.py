import numpy as np
import pytest

from training.config import CameraConfig
from training.crops.camera import CameraJitter

OFF = CameraConfig(illumination=0, colour=0, blur=0, noise=0, compression=0)
PICTURE = np.random.default_rng(0).integers(60, 200, (48, 64, 3)).astype(np.uint8)


def test_nothing_switched_on_changes_nothing() -> None:
    np.testing.assert_array_equal(CameraJitter(OFF)(PICTURE, np.random.default_rng(0)), PICTURE)


@pytest.mark.parametrize("name", CameraConfig.model_fields)
def test_each_switch_changes_the_picture_by_itself_and_repeatably(name: str) -> None:
    jitter = CameraJitter(OFF.model_copy(update={name: 1}))
    first, again, other = (jitter(PICTURE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == (PICTURE.shape, np.uint8)
    np.testing.assert_array_equal(first, again)
    assert (first != PICTURE).any()
    assert (first != other).any()
