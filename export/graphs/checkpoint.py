"""Reads a checkpoint folder. Its own code rebuilds the network, so this room knows nothing of training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel

from export.contract.files import sha256_of
from export.contract.tensors import LENGTH_BUCKETS, Dimensions, bucket

FILES = ("config.json", "model.safetensors", "tokenizer.json", "manifest.json", "modeling_florence2_grounding.py")


class CheckpointError(ValueError):
    """A checkpoint folder cannot be exported."""


@dataclass(frozen=True)
class Checkpoint:
    """A network in fp32 and evaluation mode, and what was handed over with it."""

    folder: Path
    name: str
    sha256: str  # of model.safetensors
    network: nn.Module
    tokenizer: Tokenizer
    dimensions: Dimensions
    defects: tuple[str, ...]  # ids of the classes that it was trained on
    outlines: bool  # whether the decoder has learned to outline what is in a region
    score_thresholds: Mapping[str, float]  # by class id, and "default" for words that name none of them

    def prompt_inputs(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """INPUT_IDS and ATTENTION_MASK (P, L) of words, for prompt encoder and generator, padded to a bucket."""
        encodings = self.tokenizer.encode_batch(list(texts))
        length = bucket(max(len(encoding.ids) for encoding in encodings), LENGTH_BUCKETS, "tokens of a prompt")
        input_ids = np.full((len(texts), length), self.tokenizer.token_to_id("<pad>"), np.int64)
        attention_mask = np.zeros((len(texts), length), np.int64)
        for row, encoding in enumerate(encodings):
            input_ids[row, : len(encoding.ids)] = encoding.ids
            attention_mask[row, : len(encoding.ids)] = 1
        return {"INPUT_IDS": input_ids, "ATTENTION_MASK": attention_mask}


def load_checkpoint(folder: Path) -> Checkpoint:
    """Loads a checkpoint; its Python file is executed, so export only what you trust.

    Raises:
        CheckpointError: names the missing or broken file, the missing field or the weight that is not finite.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} is not a checkpoint: {', '.join(missing)} missing; train one first")
    manifest = _read_manifest(folder / "manifest.json")
    absent = [field for field in ("name", "defects", "score_threshold") if field not in manifest]
    if absent:
        raise CheckpointError(f"{folder / 'manifest.json'} lacks {', '.join(absent)}")
    try:
        network = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # safetensors and tokenizers raise their own types
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    broken = [name for name, weight in network.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        raise CheckpointError(f"{folder}: weights that are not finite: {', '.join(broken)}; train again")
    config = network.config
    return Checkpoint(
        folder=folder,
        name=manifest["name"],
        sha256=sha256_of(folder / "model.safetensors"),
        network=network,
        tokenizer=tokenizer,
        dimensions=Dimensions(config.tile_size, config.text_config.d_model, config.boxes_per_tile),
        defects=tuple(manifest["defects"]),
        outlines=bool(getattr(config, "outlines", False)),  # the code of older checkpoints knows of none
        score_thresholds=_score_thresholds(manifest),
    )


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} cannot be read ({error}); copy the checkpoint again") from error
    if not isinstance(manifest, dict):
        raise CheckpointError(
            f"{file} holds a {type(manifest).__name__}, expected an object; copy the checkpoint again"
        )
    return manifest


def _score_thresholds(manifest: dict[str, Any]) -> dict[str, float]:
    """Those of the calibration; of every other class the operating point of the whole checkpoint."""
    default = float(manifest["score_threshold"])
    calibrated: dict[str, float] = manifest.get("calibration", {}).get("score_thresholds", {})
    own = {name: float(score) for name, score in calibrated.items()}  # a plant's own classes among them
    return {"default": default} | dict.fromkeys(manifest["defects"], default) | own
