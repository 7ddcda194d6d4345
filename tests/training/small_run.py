"""The settings of a training run that takes seconds: a smaller network, a few steps."""

from pathlib import Path

from tests.conftest import ROOT

CONFIG = ROOT / "training" / "configs" / "deeppcb_tiny.yaml"
PICTURES, BATCH_SIZE = 3, 4  # of the boards that are learned from, see boards.py, and crops per step


def settings(data: Path, out: Path, steps: int = 4) -> list[str]:
    """Overrides of CONFIG; half of the steps train everything, the other half the decoder only."""
    return [
        f"data.sources=[{{path: {data}}}]",
        f"out={out}",
        "data.holdout_groups=['22222']",
        "model.vision_widths=[8, 16]",
        "model.vision_depths=[0, 1]",
        "model.vision_heads=[1, 2]",
        "model.patch_sizes=[7, 3]",
        "model.patch_strides=[8, 2]",
        "model.window_size=4",
        "model.width=32",
        "model.layers=1",
        "model.heads=2",
        "model.ffn=64",
        "model.tile_size=128",
        "model.boxes_per_tile=8",
        f"train.batch_size={BATCH_SIZE}",
        f"train.max_epochs={steps * BATCH_SIZE / PICTURES}",
        "train.threads=1",
        "train.validate_every=2",
        "train.save_every=2",
        "train.stages=[{share: 0.5, mosaic: 0.5}, {share: 0.5, mosaic: 0.0, decoder_only: true}]",
    ]
