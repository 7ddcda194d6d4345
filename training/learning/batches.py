"""Draws what a step learns from: crops, prompts about them and their answers.

Knows nothing of the network but its tokenizer and the pixels of its image tokens.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.defects import Defect
from training.crops.crop import Crop
from training.crops.sampler import CropSampler
from training.crops.view import View, draw_view
from training.learning.schedule import Schedule, Stage
from training.learning.sentences import Sentences
from training.learning.targets import (
    GenerativeBatch,
    GroundingPrompts,
    Positives,
    assign,
    draw_generative_batch,
    draw_grounding_prompts,
)
from training.prompts import Phrasings

Tensors = TypeVar("Tensors", Positives, GenerativeBatch)


def to_device(tensors: Tensors, device: torch.device) -> Tensors:
    """The same with its tensors on a device."""
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in vars(tensors).items() if isinstance(value, Tensor)
    }
    return dataclasses.replace(tensors, **moved)


@dataclass(frozen=True)
class Batch:
    """Crops (B, S, S, 3) uint8 RGB, and what each reading is asked; the generative one about the first G of them."""

    image: Tensor
    found: Positives
    prompts: GroundingPrompts
    sparse: Sequence[Sequence[str]]  # sentences that hold somewhere in each crop
    generative: GenerativeBatch | None

    def to(self, device: torch.device) -> Self:
        """The same with the tensors of its answers on a device."""
        generative = None if self.generative is None else to_device(self.generative, device)
        return dataclasses.replace(self, found=to_device(self.found, device), generative=generative)


@dataclass(frozen=True)
class DecoderBatch:
    """Crops (B, S, S, 3) uint8 RGB, and what the generative reading alone is asked about each."""

    image: Tensor
    generative: GenerativeBatch

    def to(self, device: torch.device) -> Self:
        """The same with the tensors of its answers on a device."""
        return dataclasses.replace(self, generative=to_device(self.generative, device))


@dataclass(frozen=True)
class Draws:
    """The random generators of one step of one process."""

    arrays: np.random.Generator
    words: random.Random

    @classmethod
    def of(cls, seed: int, step: int, process: int) -> Self:
        """The generators of a step, from its own seed: a resumed run sees what the uninterrupted one would have seen.

        The first process draws as the only one does.
        """
        key = (seed, step, process) if process else (seed, step)
        return cls(np.random.default_rng(key), random.Random("/".join(map(str, key))))


class Batches:
    """Draws batches; the same generators give the same batch."""

    def __init__(
        self,
        categories: Sequence[Defect],
        sampler: CropSampler,
        tokenizer: Tokenizer,
        phrasings: Phrasings,
        *,
        batch_size: int,
        generative_share: float,
        stride: int,
        outline_share: float = 0.0,
        size_balance: float = 0.0,
        sentences: Sentences | None = None,
    ) -> None:
        self.categories = categories
        self.sampler = sampler
        self.tokenizer = tokenizer
        self.phrasings = phrasings
        self.batch_size = batch_size
        self.generative_share = generative_share
        self.stride = stride  # pixels per image token
        self.outline_share = outline_share
        self.size_balance = size_balance
        self.sentences = sentences

    def draw(self, stage: Stage, draws: Draws) -> Batch | DecoderBatch:
        """A batch as `stage` has them."""
        size, arrays, words = stage.crop_size, draws.arrays, draws.words
        crops = [self.sampler.draw(size, bool(arrays.random() < stage.mosaic), arrays) for _ in range(self.batch_size)]
        if stage.decoder_only:
            return self._draw_decoder(crops, size, words)
        image = torch.from_numpy(np.stack([crop.image for crop in crops]))
        asked = max(1, round(self.batch_size * self.generative_share)) if self.generative_share else 0
        generative = self._draw_generative(crops[:asked], size, words, None) if asked else None
        return Batch(
            image,
            assign(crops, size // self.stride, size, self.size_balance),
            draw_grounding_prompts(self.categories, crops, words, self.phrasings, self.sentences),
            [crop.sparse for crop in crops],
            generative,
        )

    def _draw_decoder(self, crops: Sequence[Crop], size: int, words: random.Random) -> DecoderBatch:
        """With a view in the place of some of the crops of which an outline is known."""
        views = [draw_view(crop, words) if words.random() < self.outline_share else None for crop in crops]
        shown = [crop.image if view is None else view.image for crop, view in zip(crops, views, strict=True)]
        return DecoderBatch(torch.from_numpy(np.stack(shown)), self._draw_generative(crops, size, words, views))

    def _draw_generative(
        self, crops: Sequence[Crop], size: int, words: random.Random, views: Sequence[View | None] | None
    ) -> GenerativeBatch:
        return draw_generative_batch(self.categories, crops, size, self.tokenizer, words, self.phrasings, views)


@dataclass(frozen=True)
class StepBatches:
    """What each step of one process learns from: as many batches as it accumulates gradients of."""

    batches: Batches
    schedule: Schedule
    seed: int
    process: int
    accumulation: int

    def draw(self, step: int) -> list[Batch | DecoderBatch]:
        """The batches of a step, whatever was drawn before."""
        draws = Draws.of(self.seed, step, self.process)
        return [self.batches.draw(self.schedule.stage(step), draws) for _ in range(self.accumulation)]
