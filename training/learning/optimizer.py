"""AdamW for everything, or Muon for the weight matrices and AdamW for the rest; one warm-up and cosine over both.

Muon is for training from scratch; a published checkpoint is fine-tuned with AdamW alone (matrix_lr none).
Muon: Jordan et al., 2024; its update is scaled to AdamW's root-mean-square size (Liu et al., Muon is
Scalable for LLM Training, 2025), so that one learning rate scale fits both.
"""

import math

import torch
from torch import nn

from training.config import TrainConfig
from training.learning.muon import Muon


class Optimizer:
    """Both optimisers and their schedule, for the weights that are not frozen, behind one step."""

    def __init__(self, network: nn.Module, config: TrainConfig, first_step: int, last_step: int) -> None:
        self.config = config
        self.first_step = first_step
        self.last_step = last_step
        self.warmup_steps = min(config.warmup_steps, (last_step - first_step) // 4)  # or a short run would never arrive
        matrices: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
        for parameter in network.parameters():  # a tied weight comes once
            if not parameter.requires_grad:
                continue
            if parameter.ndim < 2 or id(parameter) in embeddings:
                rest.append(parameter)
            elif parameter.ndim == 2 and min(parameter.shape) > 4 and config.matrix_lr is not None:
                matrices.append(parameter)
            else:
                tables.append(parameter)
        self.parameters = matrices + tables + rest
        self.peaks = {"adamw": config.lr}  # learning rates by optimiser
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        if config.matrix_lr is not None:
            self.peaks["muon"] = config.matrix_lr
            precision = torch.bfloat16 if config.precision == "bf16" else torch.float32
            decay = config.weight_decay
            self.optimizers["muon"] = Muon(matrices, lr=config.matrix_lr, weight_decay=decay, precision=precision)
        self.optimizers["adamw"] = torch.optim.AdamW(
            [{"params": tables, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(0.9, 0.98),
        )

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up from `first_step`, then half a cosine down to 1 % at `last_step`."""
        done = step - self.first_step
        if done < self.warmup_steps:
            return (done + 1) / self.warmup_steps
        span = max(1, self.last_step - self.first_step - self.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - self.warmup_steps) / span))

    def learning_rates(self) -> dict[str, float]:
        """Those of the last step, by optimiser."""
        return {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in self.optimizers.items()}

    def step(self, step: int) -> float:
        """Clips the gradients, updates the weights, clears the gradients; returns the norm before clipping.

        Raises:
            FloatingPointError: a gradient is not finite; the weights are as before.
        """
        factor = self.learning_rate_factor(step)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"step {step + 1}: the gradient's norm is {norm}; lower train.lr and train.matrix_lr, or raise "
                "train.warmup_steps, and give another 'out', since a run's settings stay as they are; where this one "
                "was validated, go on from there with --set 'model={checkpoint: OUT/checkpoint}'"
            )
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.peaks[name] * factor
            optimizer.step()
            optimizer.zero_grad()
        return norm

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` needs to go on as if never stopped."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Takes up the state of an earlier run."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
