"""The checkpoint with a scaling of its scores built in; knows nothing of how the scaling was found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.calibration import Platt
from training.network.checkpoint import MANIFEST
from training.network.modeling_florence2_grounding import GroundingHead

WEIGHTS = "model.safetensors"
SCALE, BIAS = "grounding.match_scale", "grounding.match_bias"


@torch.no_grad()
def fold(head: GroundingHead, platt: Platt) -> Platt:
    """Builds a scaling into the head, in half precision as checkpoints are; returns it as it became by rounding.

    The head's score is sigmoid(scale * similarity + bias), so scaling its logit changes these two numbers only.
    """
    scale, bias = float(head.match_scale), float(head.match_bias)
    for weight, value in ((head.match_scale, platt.scale * scale), (head.match_bias, platt.scale * bias + platt.bias)):
        weight.copy_(torch.tensor(value, dtype=torch.float16))
    factor = float(head.match_scale) / scale
    return Platt(factor, float(head.match_bias) - factor * bias)


def write_calibrated(source: Path, target: Path, head: GroundingHead, calibration: dict[str, Any]) -> None:
    """Writes the checkpoint `source` with the head's scale and bias and with the calibration to `target`.

    Everything is written beside the target and renamed; an earlier target is removed only then.
    """
    partial, earlier = (target.with_name(target.name + suffix) for suffix in (".partial", ".earlier"))
    for leftover in (partial, earlier):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(source, partial)
    with safe_open(source / WEIGHTS, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, value in ((SCALE, head.match_scale), (BIAS, head.match_bias)):
        weights[name] = value.detach().to("cpu", weights[name].dtype)
    save_file(weights, partial / WEIGHTS, metadata)
    manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    scaling = Platt(calibration["scale"], calibration["bias"])
    operating_point = scaling.apply(np.array([manifest["score_threshold"]]))  # the same one, as scores are now
    manifest |= {"score_threshold": round(float(operating_point[0]), 4), "calibration": calibration}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if target.exists():
        target.rename(earlier)
    partial.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)
