"""The processes of one run, one per GPU; one that is started alone is a run by itself.

    accelerate launch --multi_gpu --num_processes 2 -m training.train --config training/configs/florence2_finetune.yaml
    torchrun --nproc_per_node 2 -m training.train --config training/configs/deeppcb_tiny.yaml

The second also does on CPUs, where `accelerate launch` starts several processes only through MPI.

Every process holds the whole network and draws its own crops; their gradients are averaged before each step, so
that the weights stay the same everywhere. The network is called by its parts, not by one `forward`, which is why
no wrapper around it does this.
"""

from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn

PATIENCE = timedelta(days=1)  # of the others, while the main one validates; the library's is ten minutes


class Processes:
    """This process among those of the run."""

    def __init__(self) -> None:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        self.count: int = state.num_processes
        self.index: int = state.process_index
        self.is_main: bool = state.is_main_process  # the one that validates, writes and shows progress
        self.device: torch.device = state.device
        self._state = state

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces each gradient by its mean over the processes; one that no process has stays absent."""
        if self.count == 1:
            return
        given = parameters[0].new_tensor([parameter.grad is not None for parameter in parameters])
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        # One message for all of them: a network of hundreds of small ones would wait on the way.
        mean = reduce(torch.cat([gradient.flatten() for gradient in gradients] + [given]), "mean")
        given = mean[-len(parameters) :]
        sizes = [each.numel() for each in parameters]
        for parameter, part, share in zip(parameters, mean[: -len(parameters)].split(sizes), given, strict=True):
            parameter.grad = part.view_as(parameter) if share > 0 else None

    def any_says(self, flag: bool) -> bool:
        """Whether the flag is set in any process; the same answer in all of them."""
        said: torch.Tensor = reduce(torch.tensor(float(flag), device=self.device), "sum")
        return bool(said > 0)

    def wait(self) -> None:
        """Returns once every process has come here."""
        self._state.wait_for_everyone()

    def close(self) -> None:
        """Leaves the group of processes."""
        self._state.destroy_process_group()
