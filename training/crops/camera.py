"""Other cameras, lamps and links for colour and gray pictures: light, colour, blur, sensor noise, compression.

Pixels stay where they are, so boxes stay right. What a defect looks like must survive, hence the narrow ranges.
"""

import os

import numpy as np
from numpy.typing import NDArray

from training.config import CameraConfig


class CameraJitter:
    """Changes uint8 pictures, RGB (H, W, 3) or gray (H, W), at random; a generator's state decides every pixel."""

    def __init__(self, config: CameraConfig) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for its newest version
        import albumentations as A  # noqa: N812 - here, since it takes seconds to import

        light = A.OneOf(
            [
                A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=1),
                A.RandomGamma(gamma_limit=(70, 140), p=1),
                A.Illumination(mode="linear", intensity_range=(0.02, 0.15), p=1),
            ],
            p=config.illumination,
        )
        colour = A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=25, val_shift_limit=0, p=config.colour)
        rest = [
            A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.2), p=1), A.MotionBlur(blur_limit=(3, 5), p=1)], p=config.blur),
            A.GaussNoise(std_range=(0.005, 0.04), p=config.noise),
            A.ImageCompression(quality_range=(50, 95), p=config.compression),
        ]
        self._of_colour, self._of_gray = A.Compose([light, colour, *rest]), A.Compose([light, *rest])

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Another picture of the same thing."""
        compose = self._of_gray if image.ndim == 2 else self._of_colour
        compose.set_random_seed(int(rng.integers(2**31)))
        changed: NDArray[np.uint8] = compose(image=image)["image"]
        return changed
