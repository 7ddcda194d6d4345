"""Early stopping on the held-out mAP@0.5: which validation was the best, and whether waiting longer is in vain.

Prechelt, Early Stopping - But When?, 1998: the generalisation loss, counted in validations.
"""

from dataclasses import dataclass

from training.config import EarlyStoppingConfig


@dataclass
class EarlyStopping:
    """The validations so far; nothing but numbers, so that a resumed run decides as the uninterrupted one."""

    best_map50: float = -1.0
    best_step: int = 0
    reference_map50: float = -1.0  # the last that rose by min_delta or more
    waited: int = 0  # validations since then

    def judge(self, step: int, map50: float, config: EarlyStoppingConfig) -> bool:
        """Takes up a validation; whether its checkpoint is the best so far, and to be kept."""
        better = map50 > self.best_map50
        if better:
            self.best_map50, self.best_step = map50, step
        if map50 > self.reference_map50 and map50 >= self.reference_map50 + config.min_delta:
            self.reference_map50, self.waited = map50, 0
        else:
            self.waited += 1
        return better

    def is_over(self, config: EarlyStoppingConfig) -> bool:
        """Whether `patience` validations in a row brought nothing."""
        return self.waited >= config.patience
