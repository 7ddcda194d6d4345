"""The folder of a run: the record of its configuration, and the state that a killed run goes on from."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from training.config import Config, ConfigError

RECORD = "config.json"
STATE = "state.pt"


def read_state(config: Config, steps: int, labels: str) -> dict[str, Any] | None:
    """The last saved state of this very run on the CPU; None where there is none.

    `labels` is the digest of what the run learns from and is judged by.

    Raises:
        ConfigError: the folder holds a run with another configuration, of another number of steps, or of other labels.
    """
    if not (config.out / STATE).is_file():
        return None
    if not _is_recorded(config):
        raise ConfigError(f"{config.out} holds a run with another configuration; give another 'out' or remove it")
    state: dict[str, Any] = torch.load(config.out / STATE, map_location="cpu", weights_only=True)
    if state["steps"] != steps:
        raise ConfigError(
            f"{config.out} holds a run of {state['steps']} steps, expected {steps}: the number of pictures or of "
            "processes has changed; give another 'out' or remove it"
        )
    if state["labels"] != labels:
        raise ConfigError(
            f"{config.out} holds a run of step {state['step']} of {steps} whose labels were others: boxes, words or "
            "pictures of the data have changed since; give another 'out' or remove it"
        )
    return state


def open_folder(config: Config) -> None:
    """Makes the folder and records the configuration in it; a full disk leaves an earlier record."""
    config.out.mkdir(parents=True, exist_ok=True)
    partial = config.out / f"{RECORD}.partial"
    partial.write_text(json.dumps(_record(config), indent=2) + "\n")
    partial.replace(config.out / RECORD)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the saved state; a kill on the way leaves the earlier one."""
    partial = folder / f"{STATE}.partial"
    torch.save(state, partial)
    partial.replace(folder / STATE)


def _is_recorded(config: Config) -> bool:
    """Whether the folder's record says the same; fields that are newer than it have their defaults in it."""
    record = json.loads((config.out / RECORD).read_text())
    record["train"]["threads"] = config.train.threads
    try:
        return Config.model_validate(record) == config
    except ValidationError:  # of a schema that knew other fields
        return False


def _record(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"train": {"threads"}})  # changes the speed only
