"""The log of a run: log.jsonl, which travels with the checkpoint, and the same numbers for TensorBoard.

    tensorboard --logdir runs

Nothing reads TensorBoard's events but TensorBoard.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from training.network.checkpoint import LOG

EVENTS = "tensorboard"  # folder beside log.jsonl


class RunLog:
    """Appends entries; a resumed run goes on in the same files.

    `step` is the step that the run goes on from: what was written of later steps, before the run was killed, is
    dropped, and so is all of an earlier run where this one starts anew.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / LOG
        if self.file.is_file():
            lines = self.text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and step and json.loads(line)["step"] <= step]
            partial = self.file.with_suffix(".partial")
            partial.write_text("".join(kept), encoding="utf-8")
            partial.replace(self.file)
        self.events = SummaryWriter(str(folder / EVENTS), purge_step=step + 1 if step else None)

    def write(self, step: int, seconds: float, entry: Mapping[str, Any]) -> None:
        """One line with the step, the seconds of training so far, and the entry; each number in it is a curve."""
        line = {"step": step, "seconds": round(seconds, 1), **entry}
        with self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        for name, number in _numbers(entry):
            self.events.add_scalar(name, number, step)
        self.events.flush()

    def text(self) -> str:
        """The lines so far."""
        return self.file.read_text(encoding="utf-8")

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self.events.close()


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
