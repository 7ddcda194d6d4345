"""The checkpoint: a folder that needs nothing else.

config.json and model.safetensors (fp16) with the code of the network beside them, tokenizer.json with its
transformers configuration, preprocessor_config.json, manifest.json (data, seeds, metrics, git commit), and
log.jsonl, the log of the run. Where the run was told to keep pictures for later runs, replay/ holds them.
"""

import datetime
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from training.network.lora import merge_adapters
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.tokenizer import BOS, EOS, PAD, UNK

MANIFEST = "manifest.json"
LOG = "log.jsonl"  # of the run: losses and validation figures by step
REPLAY = "replay"  # folder of a training.learning.replay.ReplayBuffer


class CheckpointError(ValueError):
    """A folder is not a checkpoint of this project."""


def save_checkpoint(
    folder: Path,
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    manifest: dict[str, Any],
    log: str,
    replay: Path | None = None,
) -> None:
    """Writes a checkpoint beside its final place and renames it there, replacing an earlier one.

    Adapters are merged into the weights that they stand beside. `replay` is the folder of a saved buffer to take in.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    merge_adapters(network).to(torch.float16).save_pretrained(partial)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, pad_token=PAD, eos_token=EOS, unk_token=UNK
    ).save_pretrained(partial)
    config = network.config
    preprocessing = {
        "size": {"height": config.tile_size, "width": config.tile_size},
        "image_mean": np.broadcast_to(config.image_mean, 3).tolist(),
        "image_std": np.broadcast_to(config.image_std, 3).tolist(),
        "rescale_factor": 1 / 255,
    }
    (partial / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
    complete = manifest | {"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    (partial / MANIFEST).write_text(json.dumps(complete, indent=2, ensure_ascii=False) + "\n")
    (partial / LOG).write_text(log, encoding="utf-8")
    if replay is not None:
        shutil.copytree(replay, partial / REPLAY, copy_function=_link)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _link(source: str, target: str) -> None:
    """The same file under another name: a run saves often and its pictures stay. A copy where links cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def load_checkpoint(folder: Path) -> tuple[Florence2ForGrounding, Tokenizer, dict[str, Any]]:
    """The network in fp32 and evaluation mode, its tokenizer and its manifest.

    Raises:
        CheckpointError: names the file that is missing, or says why the files cannot be read.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json", MANIFEST):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is not a checkpoint: {name} is missing; give a folder that training wrote")
    try:
        network = Florence2ForGrounding.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except Exception as error:  # safetensors and tokenizers raise their own types
        raise CheckpointError(f"{folder} cannot be loaded: {error}; train it again") from error
    return network, tokenizer, manifest


def git_commit() -> str | None:
    """The commit of the sources, with `-dirty` after it where they differ; None outside a checkout."""
    here = Path(__file__).parent
    describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
