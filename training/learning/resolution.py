"""Which crop sizes a network can learn from besides its own tile.

DaViT's window attention fills the last windows of a grid with zeros where the grid is no multiple of the window, and
does not mask them: cells there would attend to zeros that the network never sees at the size of its tile.
"""

import math
from collections.abc import Sequence

from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from training.config import ConfigError, StageConfig


def check_input_resolutions(stages: Sequence[StageConfig], vision: Florence2VisionConfig, tile_size: int) -> None:
    """Looks at the input_resolution of every stage, in pixels.

    Raises:
        ConfigError: one is no multiple of an image token's pixels, larger than the tile, or makes DaViT fill
            windows that it does not fill for the tile. Lists all of these.
    """
    stride = math.prod(vision.patch_stride)
    usual = _filled(vision, tile_size)
    usable = [size for size in range(stride, tile_size + 1, stride) if _filled(vision, size) <= usual]
    faults = [
        f"train.stages[{index}].input_resolution {stage.input_resolution}"
        for index, stage in enumerate(stages)
        if stage.input_resolution is not None and stage.input_resolution not in usable
    ]
    if faults:
        raise ConfigError(
            f"{', '.join(faults)}: expected a multiple of {stride} pixels, an image token, up to the tile's "
            f"{tile_size}, that leaves no attention window of {vision.window_size} cells partly empty where the tile "
            f"does not: {', '.join(map(str, usable))}"
        )


def _filled(vision: Florence2VisionConfig, size: int) -> set[int]:
    """The DaViT stages whose grid of cells, for a picture of `size` pixels, is no multiple of the window."""
    strides = [math.prod(vision.patch_stride[: stage + 1]) for stage in range(len(vision.patch_stride))]
    return {
        stage
        for stage, (stride, depth) in enumerate(zip(strides, vision.depths, strict=True))
        if depth and size // stride % vision.window_size
    }
