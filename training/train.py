"""Trains a checkpoint; knows nothing of engines and services.

    python -m training.train --config training/configs/deeppcb_tiny.yaml [--set section.field=value ...]

Runs on a GPU where there is one, and as several processes where started so (see learning/processes.py). A killed
run goes on from its last saved state when the same command is given again. The run's folder holds config.json,
log.jsonl, tensorboard/, state.pt and checkpoint/.
"""

import argparse
import dataclasses
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from training.config import Config, ConfigError, read_config
from training.crops.sampler import CropSampler
from training.data.dataset import DatasetError, has_all_names
from training.data.label_digest import label_digest
from training.evaluate import evaluate_grounding
from training.learning.batches import Batches, StepBatches
from training.learning.early_stopping import EarlyStopping
from training.learning.learner import Learner
from training.learning.objective import Terms, mean_terms
from training.learning.processes import Processes
from training.learning.resolution import check_input_resolutions
from training.learning.run_log import RunLog
from training.learning.run_state import open_folder, read_state, write_state
from training.learning.schedule import plan
from training.learning.sentences import sentences_of
from training.learning.start import open_buffer, phrasings_of, read_datasets, start_network, weights_by_class
from training.metrics import Figures
from training.network.checkpoint import REPLAY, CheckpointError, git_commit, load_checkpoint, save_checkpoint
from training.network.published import PretrainedError

LOG_EVERY = 20


class Run:
    """One training run: its network, the moving average that becomes the checkpoint, and its progress."""

    def __init__(self, config: Config) -> None:
        self.config = config
        train = config.train
        self.processes = Processes()
        torch.set_num_threads(train.threads)
        cv2.setNumThreads(0)
        torch.manual_seed(train.seed)
        self.buffer = open_buffer(config)
        self.dataset, self.holdout, replayed = read_datasets(config.data, self.buffer.as_dataset())
        self.labels = label_digest(self.dataset, self.holdout, replayed)
        ratio = config.data.replay.ratio if config.data.replay is not None and replayed.samples else 0.0
        sampler = CropSampler(self.dataset, config.crops, replayed.samples, ratio)
        network, self.tokenizer = start_network(config, self.dataset)
        tile_size, vision = network.config.tile_size, network.config.vision_config
        check_input_resolutions(train.stages, vision, tile_size)
        self.schedule = plan(train, len(self.dataset.samples), tile_size, self.processes.count)
        device = self.processes.device
        class_weights = weights_by_class(train.class_weights, self.dataset.categories, device)
        self.learner = Learner(network, self.tokenizer, train, self.schedule, self.processes, class_weights)
        self.batches = Batches(
            self.dataset.categories,
            sampler,
            self.tokenizer,
            phrasings_of(config.data),
            batch_size=train.batch_size,
            generative_share=train.generative_share,
            stride=network.grounding_stride,
            outline_share=train.outline_share,
            size_balance=train.size_balance,
            sentences=sentences_of(self.dataset),
        )
        self.stopping = EarlyStopping()
        self.commit = git_commit()  # of the code that runs, whatever is committed meanwhile
        self.step = 0
        self.seconds = 0.0  # spent training, over all sittings
        self.kept: dict[str, Any] | None = None  # what the checkpoint's replay buffer holds

    def train(self) -> None:
        """Trains to the last step, validating, saving and logging on the way."""
        train, schedule = self.config.train, self.schedule
        self._resume()
        self._keep_pictures()
        if self.step == schedule.steps and self.processes.is_main:
            print(f"{self.config.out} holds this run, at its end: {self.config.out / 'checkpoint'}", file=sys.stderr)  # noqa: T201
        recent: deque[Terms] = deque(maxlen=LOG_EVERY * train.accumulation)
        drawn = StepBatches(self.batches, schedule, train.seed, self.processes.index, train.accumulation)
        quiet = None if self.processes.is_main else True
        progress = tqdm(total=schedule.steps, initial=self.step, unit="step", file=sys.stderr, disable=quiet)
        started = time.monotonic() - self.seconds
        while self.step < schedule.steps:
            if self.step == schedule.joint_steps:
                self.learner.freeze_all_but_decoder()
            history, norm = self.learner.take_step(self.step, drawn.draw(self.step))
            recent.extend(history)
            self.step += 1
            self.seconds = time.monotonic() - started
            progress.update()
            if self.step % LOG_EVERY == 0:
                progress.set_postfix(self._log_losses(recent, norm))
            over = False
            if self.step % train.validate_every == 0 or self.step in (schedule.joint_steps, schedule.steps):
                over = self._validate()
            if over:
                self.step = schedule.joint_steps
                progress.update(self.step - progress.n)
            go_back = train.early_stopping is not None and self.step == schedule.joint_steps < schedule.steps
            if go_back:
                self._go_back_to_best()
            if go_back or self.step % train.save_every == 0 or self.step == schedule.steps:
                self._save_state()
        progress.close()
        if self.processes.is_main:
            self.log.close()

    def _go_back_to_best(self) -> None:
        """Takes the kept checkpoint's weights for the averaged ones, on top of which the decoder learns alone.

        Before the state is saved: validations of the decoder's stage write over that checkpoint.
        """
        self.processes.wait()  # for the main one to have written it
        best, _, _ = load_checkpoint(self.config.out / "checkpoint")
        self.learner.average.load_state_dict(best.state_dict())

    def _log_losses(self, recent: deque[Terms], norm: float) -> dict[str, float]:
        """The mean losses of the last steps, of this process."""
        losses = {name: round(value, 4) for name, value in mean_terms(recent).items()}
        if not np.isfinite(list(losses.values())).all():
            raise FloatingPointError(f"step {self.step}: loss is not finite: {losses}; lower the learning rates")
        rates = self.learner.optimizer.learning_rates()
        self._log({"losses": losses, "gradient_norm": round(norm, 3), "learning_rates": rates})
        return losses

    def validate(self) -> Figures:
        """The averaged weights on the held-out pictures, each class asked for by its usual English name."""
        return evaluate_grounding(self.learner.average, self.tokenizer, self.holdout, ("en",))["en"]

    def _validate(self) -> bool:
        """Validates and keeps the checkpoint, with early stopping only the best; whether joint training is over."""
        over = False
        if self.processes.is_main:
            figures, rule = self.validate(), self.config.train.early_stopping
            entry: dict[str, Any] = {"holdout": figures.as_json()}
            keep = True
            if rule is not None and self.step <= self.schedule.joint_steps:  # later on grounding stays as it is
                keep = self.stopping.judge(self.step, figures.map50, rule)
                over = self.stopping.is_over(rule)
                entry |= {"best_step": self.stopping.best_step, "early_stopping": over}
            self._log(entry)
            if keep:
                self._save_checkpoint(figures)
        return self.processes.any_says(over)

    def _save_checkpoint(self, figures: Figures) -> None:
        config = self.config
        manifest = {
            "name": config.name,
            "defects": [category.id for category in self.dataset.categories if has_all_names(category)],
            "score_threshold": round(figures.score_threshold, 4),
            "metrics": {"holdout": figures.as_json()},
            "data": {
                "categories": [category.id for category in self.dataset.categories],
                "images": len({sample.path for sample in self.dataset.samples}),
                "holdout_groups": list(config.data.holdout_groups),
                "holdout_images": len(self.holdout.samples),
                "replayed_images": len(self.batches.sampler.replayed.samples),
                "replay": self.kept,
            },
            "git_commit": self.commit,
            "training": {"steps": self.step, "seconds": round(self.seconds), "config": config.model_dump(mode="json")},
        }
        replay = None if self.kept is None else config.out / REPLAY
        save_checkpoint(
            config.out / "checkpoint", self.learner.average, self.tokenizer, manifest, self.log.text(), replay
        )

    def _keep_pictures(self) -> None:
        """Saves pictures of this and of earlier runs, where that is asked for; every checkpoint takes them in."""
        if self.config.data.replay is None or not self.config.data.replay.save or not self.processes.is_main:
            return
        self.buffer.update(self.dataset)
        size_bytes = self.buffer.save(self.config.out / REPLAY)
        self.kept = {"images": len(self.buffer), "bytes": size_bytes, "images_by_class": self.buffer.counts()}
        self._log({"replay": self.kept})

    def _save_state(self) -> None:
        if self.processes.is_main:
            state = {
                "step": self.step,
                "steps": self.schedule.steps,
                "labels": self.labels,
                "seconds": self.seconds,
                "stopping": dataclasses.asdict(self.stopping),
                **self.learner.state_dict(),
            }
            write_state(self.config.out, state)

    def _resume(self) -> None:
        """Goes on from the saved state, if any, and opens the run's folder."""
        state = read_state(self.config, self.schedule.steps, self.labels)
        if state is not None:
            self.step, self.seconds = state["step"], state["seconds"]
            self.stopping = EarlyStopping(**state["stopping"])
            self.learner.load_state_dict(state, self.step)
        self.processes.wait()  # until all have read the folder
        if self.processes.is_main:
            open_folder(self.config)
            self.log = RunLog(self.config.out, self.step)

    def _log(self, entry: dict[str, Any]) -> None:
        if self.processes.is_main:
            self.log.write(self.step, self.seconds, entry)


def main() -> int:
    """Runs the command line; 2 for a configuration or dataset that cannot be used, 1 where a run diverges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides")
    arguments = parser.parse_args()
    try:
        run = Run(read_config(arguments.config, arguments.overrides))
        run.train()
        run.processes.close()
    except (CheckpointError, ConfigError, DatasetError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
