"""A checkpoint of Florence-2-base's dimensions with random weights: how large and how slow that network is.

    python -m tests.benchmarks.base_checkpoint --out build/florence2_base

The published layout is written with random weights and read as training reads a published Florence-2. Nothing is
downloaded, and nothing can be said of what such a network finds.
"""

import argparse
import tempfile
from pathlib import Path

from tests.training.published_florence2 import BASE, write_native
from training.network.checkpoint import save_checkpoint
from training.network.pretrained import load_pretrained

TILE = 768  # pixels, as published


def write_base_checkpoint(folder: Path) -> Path:
    """Writes the checkpoint to `folder` and returns that."""
    with tempfile.TemporaryDirectory() as name:
        network, tokenizer = load_pretrained(write_native(Path(name), BASE), tile_size=TILE, boxes_per_tile=100)
        manifest = {"name": "florence2_base_random", "defects": ["open"], "score_threshold": 0.25}
        save_checkpoint(folder, network.eval(), tokenizer, manifest, log="")
    return folder


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    print(write_base_checkpoint(parser.parse_args().out))  # noqa: T201


if __name__ == "__main__":
    main()
