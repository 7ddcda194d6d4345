"""Prunes a checkpoint: the hidden channels of feed-forward blocks that matter least go; trains nothing.

    python -m training.prune --checkpoint training/checkpoints/pcb_twelve --data ../shared/data/deeppcb \\
        --sparsity 0.4 --out runs/pcb_twelve_pruned [--split train] [--images 200] [--seed 0]

Importance is judged on labelled crops by the loss of training. Accuracy falls at first: fine-tune the result with
training.train. Calibrated thresholds and figures of the source hold for its scores only and are left out of the
manifest; its default threshold stays until training finds another.
Runs on a GPU where there is one. Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from training.config import CropConfig
from training.crops.sampler import CropSampler
from training.data.dataset import Dataset, DatasetError
from training.data.source import read_dataset
from training.learning.batches import to_device
from training.learning.objective import batch_terms
from training.learning.targets import assign, draw_generative_batch, draw_grounding_prompts
from training.network.checkpoint import LOG, REPLAY, CheckpointError, load_checkpoint, save_checkpoint
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.pruning import (
    PruningError,
    channel_importance,
    choose_channels,
    count_flops,
    count_parameters,
    feed_forwards,
    keep_channels,
)

BATCH_SIZE = 4  # crops; one of them asks the decoder too, about the share that training has
LOCATION_SIGMA = 5.0  # bins
CROPS = CropConfig(  # pieces of the pictures as they are
    near_defect=0.85,
    scale_jitter=1,
    aspect_jitter=1,
    template_share=0,
    drawn_defects=0,
    threshold_jitter=0,
    level_jitter=0,
    cache_mb=0,
    min_visible=0.5,
)


def crop_losses(
    network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset, images: int, seed: int
) -> Iterator[Tensor]:
    """The loss of training on `images` crops of the dataset, a scalar per batch."""
    sampler = CropSampler(dataset, CROPS)
    size = network.config.tile_size
    grid = size // network.grounding_stride
    arrays, words = np.random.default_rng(seed), random.Random(seed)
    torch.manual_seed(seed)  # of the boxes that slots are judged by
    for start in tqdm(range(0, images, BATCH_SIZE), desc="importance", unit="batch", file=sys.stderr, disable=None):
        crops = [sampler.draw(size, False, arrays) for _ in range(min(BATCH_SIZE, images - start))]
        generative = draw_generative_batch(dataset.categories, crops[:1], size, tokenizer, words)
        yield batch_terms(
            network,
            torch.from_numpy(np.stack([crop.image for crop in crops])),
            to_device(assign(crops, grid, size), network.device),
            draw_grounding_prompts(dataset.categories, crops, words),
            [crop.sparse for crop in crops],
            to_device(generative, network.device),
            tokenizer,
            LOCATION_SIGMA,
        ).total()


def prune(
    network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset, *, sparsity: float, images: int, seed: int
) -> tuple[Florence2ForGrounding, dict[str, Any]]:
    """A smaller network without the share `sparsity` of the prunable channels, and the report of what went.

    Raises:
        DatasetError: no defect is labelled, so nothing tells what matters.
        PruningError: so many channels cannot go, or the network is broken.
    """
    if not any(len(sample.class_ids) or sample.image_descriptions for sample in dataset.samples):
        raise DatasetError("none of the pictures has a labelled defect; give some that training learned from")
    importance = channel_importance(network, crop_losses(network, tokenizer, dataset, images, seed))
    pruned = keep_channels(network, choose_channels(importance, sparsity))
    report: dict[str, Any] = {"sparsity": sparsity, "images": images, "seed": seed}
    for name, count in (("channels", _count_channels), ("parameters", count_parameters), ("flops", count_flops)):
        before, after = count(network), count(pruned)
        report[name] = {"before": before, "after": after, "removed_share": round(1 - after / before, 4)}
    return pruned, report


def _count_channels(network: Florence2ForGrounding) -> int:
    return sum(block.fc1.out_features for block in feed_forwards(network).values())


def _sparsity(text: str) -> float:
    """A number from 0 up to, not including, 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def _count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main() -> int:
    """Runs the command line; 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="train", help="of a DeepPCB folder")
    parser.add_argument("--sparsity", type=_sparsity, required=True, help="share of the prunable channels that go")
    parser.add_argument("--images", type=_count, default=200, help="crops that importance is judged on")
    parser.add_argument("--seed", type=int, default=0, help="of the crops and prompts")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pruned checkpoint; it must not exist")
    arguments = parser.parse_args()
    source: Path = arguments.checkpoint
    try:
        if arguments.out.exists():
            raise CheckpointError(f"{arguments.out} exists; give a folder that does not")
        network, tokenizer, manifest = load_checkpoint(source)
        dataset = read_dataset(arguments.data, arguments.split)
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        pruned, report = prune(
            network,
            tokenizer,
            dataset,
            sparsity=arguments.sparsity,
            images=arguments.images,
            seed=arguments.seed,
        )
    except (CheckpointError, DatasetError, PruningError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    with (source / "model.safetensors").open("rb") as weights:
        origin = {"name": manifest["name"], "sha256": hashlib.file_digest(weights, "sha256").hexdigest()}
    report = {"split": arguments.split} | report
    for outdated in ("metrics", "calibration"):
        manifest.pop(outdated, None)
    manifest |= {"name": f"{manifest['name']}_pruned", "pruning": report | {"source": origin}}
    log, replay = source / LOG, source / REPLAY
    save_checkpoint(
        arguments.out,
        pruned,
        tokenizer,
        manifest,
        log.read_text(encoding="utf-8") if log.is_file() else "",
        replay if replay.is_dir() else None,
    )
    print(json.dumps({"checkpoint": manifest["name"]} | report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
