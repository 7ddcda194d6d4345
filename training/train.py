"""Trains a checkpoint; knows nothing of engines and services.

    python -m training.train --config training/configs/deeppcb_tiny.yaml [--set section.field=value ...]

Runs on a GPU where there is one. A killed run goes on from its last saved state when the same command is
given again. The run's folder holds config.json, log.jsonl, state.pt and checkpoint/.
"""

import argparse
import copy
import dataclasses
import json
import math
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from tqdm import tqdm

from export.contract.defects import DEFECTS
from training.checkpoint import LOG, git_commit, save_checkpoint
from training.config import Config, ConfigError, DataConfig, PretrainedConfig, StageConfig, read_config
from training.crops import CropSampler
from training.data.dataset import Dataset, DatasetError, sentences
from training.data.source import join_datasets, read_dataset
from training.evaluate import evaluate_grounding
from training.lora import add_adapters
from training.metrics import Figures
from training.network import build_network
from training.objective import Terms, batch_terms, decoder_terms, mean_terms
from training.optimizer import Optimizer
from training.pretrained import load_pretrained
from training.prompts import corpus
from training.published import PretrainedError
from training.targets import (
    GenerativeBatch,
    Positives,
    assign,
    draw_generative_batch,
    draw_grounding_prompts,
)
from training.tokenizer import train_tokenizer

LOG_EVERY = 20

Batch = TypeVar("Batch", Positives, GenerativeBatch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on a device."""
    tensors: dict[str, Any] = {
        name: value.to(device) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)
    }
    return dataclasses.replace(batch, **tensors)


def read_datasets(config: DataConfig) -> tuple[Dataset, Dataset]:
    """What is learned from and what judges, with the same categories.

    Raises:
        DatasetError: a source is faulty, a holdout group has no picture, or nothing is left to learn from.
    """
    sources = [read_dataset(source.path, source.split) for source in config.sources]
    apart = [read_dataset(source.path, source.split) for source in config.holdout]
    everything = join_datasets([*sources, *apart])
    count = sum(len(source.samples) for source in sources)
    held = set(config.holdout_groups)
    unknown = held - {sample.group for sample in everything.samples[:count]}
    if unknown:
        raise DatasetError(f"holdout groups {sorted(unknown)} have no picture in the sources")
    learned = [sample for sample in everything.samples[:count] if sample.group not in held]
    judging = [sample for sample in everything.samples[:count] if sample.group in held]
    if not learned:
        raise DatasetError(f"nothing is left to learn from: every picture is of a holdout group, {sorted(held)}")
    judging.extend(everything.samples[count:])
    return Dataset(everything.categories, tuple(learned)), Dataset(everything.categories, tuple(judging))


class Run:
    """One training run: its network, the moving average that becomes the checkpoint, and its progress."""

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.set_num_threads(config.train.threads)
        cv2.setNumThreads(0)
        torch.manual_seed(config.train.seed)
        self.dataset, self.holdout = read_datasets(config.data)
        self.sampler = CropSampler(self.dataset, config.crops)
        model = config.model
        if isinstance(model, PretrainedConfig):
            self.network, self.tokenizer = load_pretrained(
                model.pretrained, tile_size=model.tile_size, boxes_per_tile=model.boxes_per_tile
            )
            if model.lora is not None:
                add_adapters(self.network, model.lora)
        else:
            own = [category for category in self.dataset.categories if category not in DEFECTS]
            words = corpus([*DEFECTS, *own], sentences(self.dataset))
            self.tokenizer = train_tokenizer(words, model.text_vocab)
            self.network = build_network(model, self.tokenizer)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network.to(self.device)
        self.average = copy.deepcopy(self.network).eval()
        self.network.train()
        if config.train.precision == "bf16" and self.device.type == "cpu":
            self.network.set_attn_implementation("eager")  # 1.5 times as fast there as scaled_dot_product_attention
        self.grid = model.tile_size // math.prod(self.network.config.vision_config.patch_stride)
        self.optimizer = Optimizer(self.network, config.train, 0, config.train.joint_steps)
        self.commit = git_commit()  # of the code that runs, whatever is committed meanwhile
        self.step = 0
        self.seconds = 0.0  # spent training, over all sittings
        self.best: dict[str, Any] = {}

    def train(self) -> None:
        """Trains to the last step, validating, saving and logging on the way."""
        train = self.config.train
        self.config.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        recent: deque[Terms] = deque(maxlen=LOG_EVERY * train.accumulation)
        progress = tqdm(total=train.steps, initial=self.step, unit="step", file=sys.stderr, disable=None)
        started = time.monotonic() - self.seconds
        while self.step < train.steps:
            if self.step == train.joint_steps:
                self._freeze_all_but_decoder()
            history, norm = self._train_step()
            recent.extend(history)
            self.step += 1
            self.seconds = time.monotonic() - started
            progress.update()
            if self.step % LOG_EVERY == 0:
                losses = {name: round(value, 4) for name, value in mean_terms(recent).items()}
                if not np.isfinite(list(losses.values())).all():
                    raise FloatingPointError(
                        f"step {self.step}: loss is not finite: {losses}; lower the learning rates"
                    )
                self._log({"losses": losses, "gradient_norm": round(norm, 3)})
                progress.set_postfix(losses)
            if self.step % train.validate_every == 0 or self.step in (train.joint_steps, train.steps):
                figures = self.validate()
                self._log({"holdout": figures.as_json()})
                self._save_checkpoint(figures)
            if self.step % train.save_every == 0 or self.step == train.steps:
                self._save_state()
        progress.close()

    def _train_step(self) -> tuple[list[Terms], float]:
        train = self.config.train
        # Every step draws from its own seed: a resumed run sees what the uninterrupted one would have seen.
        arrays = np.random.default_rng((train.seed, self.step))
        words = random.Random(f"{train.seed}/{self.step}")
        torch.manual_seed((train.seed << 32) + self.step)  # dropout
        history = []
        for _ in range(train.accumulation):
            terms = self._draw_terms(arrays, words)
            (terms.total() / train.accumulation).backward()
            history.append(terms)
        norm = self.optimizer.step(self.step)
        self._update_average()
        return history, norm

    def _draw_terms(self, arrays: np.random.Generator, words: random.Random) -> Terms:
        """The loss of a newly drawn batch."""
        train, size, stage = self.config.train, self.config.model.tile_size, self._stage()
        crops = [self.sampler.draw(size, bool(arrays.random() < stage.mosaic), arrays) for _ in range(train.batch_size)]
        image = torch.from_numpy(np.stack([crop.image for crop in crops]))
        categories = self.dataset.categories
        asked = train.batch_size if stage.decoder_only else round(train.batch_size * train.generative_share)
        generative = None
        if asked:
            drawn = draw_generative_batch(categories, crops[:asked], size, self.tokenizer, words)
            generative = to_device(drawn, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=train.precision == "bf16"):
            if stage.decoder_only and generative is not None:
                return decoder_terms(self.network, image, generative, self.tokenizer, train.location_sigma)
            return batch_terms(
                self.network,
                image,
                to_device(assign(crops, self.grid, size), self.device),
                draw_grounding_prompts(categories, crops, words),
                [crop.sparse for crop in crops],
                generative,
                self.tokenizer,
                train.location_sigma,
            )

    def _stage(self) -> StageConfig:
        end = 0
        for stage in self.config.train.stages:
            end += stage.steps
            if self.step < end:
                return stage
        return self.config.train.stages[-1]

    def _freeze_all_but_decoder(self) -> None:
        """From here on only the decoder learns, on top of the averaged weights, with a schedule of its own."""
        self.network.load_state_dict(self.average.state_dict())
        self.network.requires_grad_(False)
        decoder = self.network.model.language_model.decoder
        shared = {id(parameter) for parameter in (self.network.get_input_embeddings().weight,)}
        for parameter in decoder.parameters():
            parameter.requires_grad_(id(parameter) not in shared)
        train = self.config.train
        self.optimizer = Optimizer(self.network, train, train.joint_steps, train.steps)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.train.ema_decay, (1 + self.step) / (10 + self.step))
        averages, weights = list(self.average.parameters()), list(self.network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def validate(self) -> Figures:
        """The averaged weights on the held-out pictures, each class asked for by its usual English name."""
        return evaluate_grounding(self.average, self.tokenizer, self.holdout, ("en",))["en"]

    def _save_checkpoint(self, figures: Figures) -> None:
        config = self.config
        manifest = {
            "name": config.name,
            "defects": [category.id for category in self.dataset.categories if category in DEFECTS],
            "score_threshold": round(figures.score_threshold, 4),
            "metrics": {"holdout": figures.as_json()},
            "data": {
                "categories": [category.id for category in self.dataset.categories],
                "images": len(self.dataset.samples),
                "holdout_groups": list(config.data.holdout_groups),
                "holdout_images": len(self.holdout.samples),
            },
            "git_commit": self.commit,
            "training": {"steps": self.step, "seconds": round(self.seconds), "config": config.model_dump(mode="json")},
        }
        log = (config.out / LOG).read_text(encoding="utf-8")
        save_checkpoint(config.out / "checkpoint", self.average, self.tokenizer, manifest, log)

    def _save_state(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.config.out / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.config.out / "state.pt")

    def _resume(self) -> None:
        given = self.config.model_dump(mode="json", exclude={"train": {"threads"}})  # changes the speed only
        record = self.config.out / "config.json"
        state_file = self.config.out / "state.pt"
        if state_file.is_file():
            if json.loads(record.read_text()) != given:
                raise ConfigError(
                    f"{self.config.out} holds a run with another configuration; give another 'out' or remove it"
                )
            state = torch.load(state_file, map_location="cpu", weights_only=True)
            self.step, self.seconds = state["step"], state["seconds"]
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            if self.step > self.config.train.joint_steps:
                self._freeze_all_but_decoder()
                self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        record.write_text(json.dumps(given, indent=2) + "\n")

    def _log(self, entry: dict[str, Any]) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1)} | entry
        with (self.config.out / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def main() -> int:
    """Runs the command line; 2 for a configuration or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides")
    arguments = parser.parse_args()
    try:
        Run(read_config(arguments.config, arguments.overrides)).train()
    except (ConfigError, DatasetError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
