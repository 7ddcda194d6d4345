"""The schedule of a run: which step belongs to which stage, from epochs and shares of the configuration.

Knows nothing of the network but its tile size.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from training.config import ConfigError, TrainConfig


@dataclass(frozen=True)
class Stage:
    """Steps `first_step` to `end_step` - 1, and how they draw."""

    first_step: int
    end_step: int
    mosaic: float  # share of crops that are 2 x 2 mosaics
    decoder_only: bool
    crop_size: int  # pixels


@dataclass(frozen=True)
class Schedule:
    """The stages of a run, without gaps."""

    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.stages[-1].end_step

    @property
    def joint_steps(self) -> int:
        """Steps of the stages that train everything."""
        return max((stage.end_step for stage in self.stages if not stage.decoder_only), default=0)

    def stage(self, step: int) -> Stage:
        """The stage that a step belongs to."""
        return next(stage for stage in self.stages if step < stage.end_step)


def plan(config: TrainConfig, pictures: int, tile_size: int, processes: int = 1) -> Schedule:
    """The schedule of `max_epochs` over `pictures`; an epoch is as many crops as there are pictures.

    Steps are rounded once, for the whole run, and each stage ends at the rounded sum of the shares up to it.
    The arithmetic is exact in the decimals of the configuration, so that no stage depends on how a float rounds.

    Raises:
        ConfigError: names every stage that gets no step.
    """
    crops_per_step = config.batch_size * config.accumulation * processes
    steps = round(Fraction(str(config.max_epochs)) * pictures / crops_per_step)
    ends = [round(share * steps) for share in accumulate(Fraction(str(stage.share)) for stage in config.stages)]
    first_steps = [0, *ends[:-1]]
    empty = [f"train.stages[{i}]" for i, (first, end) in enumerate(zip(first_steps, ends, strict=True)) if first == end]
    if empty:
        raise ConfigError(
            f"{', '.join(empty)}: no step is left: {config.max_epochs:g} epochs of {pictures} pictures are {steps} "
            f"steps of {crops_per_step} crops; raise train.max_epochs, or the shares of these stages"
        )
    return Schedule(
        tuple(
            Stage(first, end, stage.mosaic, stage.decoder_only, stage.input_resolution or tile_size)
            for stage, first, end in zip(config.stages, first_steps, ends, strict=True)
        )
    )
