"""Muon for the weight matrices, AdamW for everything else, one warm-up and cosine over both.

Muon: Jordan et al., 2024; its update is scaled to AdamW's root-mean-square size (Liu et al., Muon is
Scalable for LLM Training, 2025), so that one learning rate scale fits both.
"""

import math

import torch
from torch import nn

from training.config import TrainConfig
from training.muon import Muon


class Optimizer:
    """Both optimisers and their schedule, for the weights that are not frozen, behind one step."""

    def __init__(self, network: nn.Module, config: TrainConfig, first_step: int, last_step: int) -> None:
        self.config = config
        self.first_step = first_step
        self.last_step = last_step
        matrices: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
        for parameter in network.parameters():  # a tied weight comes once
            if not parameter.requires_grad:
                continue
            if parameter.ndim == 2 and id(parameter) not in embeddings and min(parameter.shape) > 4:
                matrices.append(parameter)
            elif parameter.ndim >= 2 and id(parameter) not in embeddings:
                tables.append(parameter)
            else:
                rest.append(parameter)
        self.parameters = matrices + tables + rest
        self.muon = Muon(matrices, lr=config.matrix_lr, weight_decay=config.weight_decay)
        self.adamw = torch.optim.AdamW(
            [{"params": tables, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(0.9, 0.98),
        )

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up from `first_step`, then half a cosine down to 1 % at `last_step`."""
        done = step - self.first_step
        if done < self.config.warmup_steps:
            return (done + 1) / self.config.warmup_steps
        span = max(1, self.last_step - self.first_step - self.config.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - self.config.warmup_steps) / span))

    def step(self, step: int) -> float:
        """Clips the gradients, updates the weights, clears the gradients; returns the norm before clipping."""
        factor = self.learning_rate_factor(step)
        for group in self.muon.param_groups:
            group["lr"] = self.config.matrix_lr * factor
        for group in self.adamw.param_groups:
            group["lr"] = self.config.lr * factor
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.muon.step()
        self.adamw.step()
        self.muon.zero_grad()
        self.adamw.zero_grad()
        return float(norm)

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` needs to go on as if never stopped."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Takes up the state of an earlier run."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
