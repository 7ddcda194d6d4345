"""Two real processes on the CPU against one."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.conftest import ROOT
from tests.training.boards import write_boards
from tests.training.small_run import CONFIG, settings
from training.config import Config, read_config
from training.learning.batches import Draws
from training.train import Run

STEPS = 3


def overrides(data: Path, out: Path) -> list[str]:
    """A run without decoder stage, in fp32: what is left of differences is the order of sums."""
    return [
        *settings(data, out, steps=2 * STEPS),  # of one process: two draw twice as many crops in a step
        "train.precision=fp32",
        "train.matrix_lr=null",
        "train.warmup_steps=0",
        "train.validate_every=100",
        "train.save_every=100",
        "train.stages=[{share: 1, mosaic: 0.5}]",
    ]


def flat(weights: nn.Module | dict[str, Tensor]) -> Tensor:
    """All weights in one vector: AdamW takes a step even for a gradient that is but rounding, so single ones differ."""
    named = weights.state_dict() if isinstance(weights, nn.Module) else weights
    return torch.cat([weight.flatten() for weight in named.values()])


def moved(config: Config, process_ids: Sequence[int]) -> Tensor:
    """How STEPS steps of one process move the weights that accumulates over the crops of those processes."""
    run = Run(config)
    learner, stage = run.learner, run.schedule.stage(0)
    before = flat(learner.network)
    learner.optimizer.last_step = STEPS
    for step in range(STEPS):
        for process in process_ids:
            batch = run.batches.draw(stage, Draws.of(config.train.seed, step, process))
            (learner.terms(batch).total() / len(process_ids)).backward()
        learner.optimizer.step(step)
    return flat(learner.network) - before


def test_two_processes_learn_what_one_learns_from_the_crops_of_both(tmp_path: Path) -> None:
    data = write_boards(tmp_path / "data")
    out = tmp_path / "two"
    words = [word for value in overrides(data, out) for word in ("--set", value)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += ["-m", "training.train", "--config", str(CONFIG), *words]
    result = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["step"] == state["steps"] == STEPS
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [STEPS]  # written by one of them only

    both, first_only = (moved(read_config(CONFIG, overrides(data, tmp_path / "one")), ids) for ids in ((0, 1), (0,)))
    got = flat(state["network"]) - flat(Run(read_config(CONFIG, overrides(data, tmp_path / "one"))).learner.network)
    assert (got - both).norm() < 0.02 * both.norm()
    assert (got - first_only).norm() > 0.2 * both.norm()
