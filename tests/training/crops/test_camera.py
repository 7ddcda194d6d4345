import numpy as np
import pytest
from numpy.typing import NDArray

from training.config import CameraConfig
from training.crops.camera import CameraJitter

OFF = CameraConfig(illumination=0, colour=0, blur=0, noise=0, compression=0)
PICTURE = np.random.default_rng(0).integers(60, 200, (48, 64, 3)).astype(np.uint8)


def test_nothing_switched_on_changes_nothing() -> None:
    np.testing.assert_array_equal(CameraJitter(OFF)(PICTURE, np.random.default_rng(0)), PICTURE)


@pytest.mark.parametrize("picture", [PICTURE, PICTURE[..., 0]], ids=["RGB", "gray"])
@pytest.mark.parametrize("name", CameraConfig.model_fields)
def test_each_switch_changes_the_picture_by_itself_and_repeatably(name: str, picture: NDArray[np.uint8]) -> None:
    jitter = CameraJitter(OFF.model_copy(update={name: 1}))
    first, again, other = (jitter(picture, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == (picture.shape, np.uint8)
    np.testing.assert_array_equal(first, again)
    if picture.ndim == 2 and name == "colour":  # it has none
        np.testing.assert_array_equal(first, picture)
        return
    assert (first != picture).any()
    assert (first != other).any()
