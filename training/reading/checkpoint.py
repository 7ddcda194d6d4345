"""A checkpoint to read pictures with: on the GPU where torch finds one."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from training.network.checkpoint import load_checkpoint
from training.network.modeling_florence2_grounding import Florence2ForGrounding


def open_checkpoint(folder: Path) -> tuple[Florence2ForGrounding, Tokenizer, dict[str, Any]]:
    """What `load_checkpoint` gives, the network where it reads fastest.

    Raises:
        CheckpointError: names the file that is missing, or says why the files cannot be read.
    """
    network, tokenizer, manifest = load_checkpoint(folder)
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, manifest
