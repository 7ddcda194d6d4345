"""What a checkpoint forgets of its old classes while it learns new ones, with and without replay.

    python -m tests.benchmarks.continual --config training/configs/deeppcb_tiny.yaml --out runs/continual \\
        --train ../shared/data/deeppcb data/synth/annotations.json \\
        --val ../shared/data/deeppcb data/synth_val/annotations.json \\
        --old-classes open short mousebite spur spurious_copper pin_hole \\
        --new-classes scratch cold_solder_joint missing_component \\
        --old-steps 3000 --new-steps 1000 [--ratio 0.5] [--capacity 1000] [--set section.field=value ...]

Three runs: the old classes; from there the new ones alone; from there the new ones with a share of crops out of the
first run's buffer. Of the datasets those pictures are taken whose defects are all of the classes learned, since
others would show defects without a label; and of --val those whose group of boards --train does not have. Given again,
the command goes on where it was. Progress goes to stderr, one JSON object to stdout: mAP@0.5 of the averaged weights,
classes asked for by their English names.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks.origin import origin
from training.config import Config, ConfigError, read_config
from training.data.coco import write_coco
from training.data.dataset import Dataset, DatasetError
from training.data.source import join_datasets, read_dataset
from training.evaluate import evaluate_grounding
from training.network.checkpoint import load_checkpoint
from training.train import Run


def restrict(dataset: Dataset, class_ids: Sequence[str]) -> Dataset:
    """The pictures that show defects of these classes only, and these categories only; good boards stay.

    Raises:
        DatasetError: the dataset does not have all of the classes, or no picture of one of them alone.
    """
    places = {category.id: index for index, category in enumerate(dataset.categories)}
    unknown = [name for name in class_ids if name not in places]
    if unknown:
        raise DatasetError(f"no category is called {', '.join(unknown)}; there are {', '.join(places)}")
    moved = {places[name]: index for index, name in enumerate(class_ids)}
    samples = [
        replace(sample, class_ids=np.array([moved[class_id] for class_id in sample.class_ids.tolist()], np.int64))
        for sample in dataset.samples
        if moved.keys() >= set(sample.class_ids.tolist())
    ]
    shown = {class_id for sample in samples for class_id in sample.class_ids.tolist()}
    absent = [name for index, name in enumerate(class_ids) if index not in shown]
    if absent:
        raise DatasetError(f"no picture shows {', '.join(absent)} with none but {', '.join(class_ids)} beside it")
    return Dataset(tuple(dataset.categories[places[name]] for name in class_ids), tuple(samples))


def configure(arguments: argparse.Namespace, run: str, classes: str, steps: int, settings: Sequence[str]) -> Config:
    """The configuration of one run of `steps` steps on the `classes` 'old' or 'new'."""
    out: Path = arguments.out
    given = read_config(arguments.config, arguments.overrides).train
    pictures = len(read_dataset(out / f"{classes}_train.json", "train").samples)
    overrides = [
        f"name={run}",
        f"out={out / run}",
        f"data.sources=[{{path: {out / classes}_train.json}}]",
        f"data.holdout=[{{path: {out / classes}_val.json}}]",
        "data.holdout_groups=[]",
        f"train.max_epochs={steps * given.batch_size * given.accumulation / pictures}",
        f"train.validate_every={steps}",
        f"train.save_every={steps}",
    ]
    return read_config(arguments.config, [*arguments.overrides, *overrides, *settings])


def judge(checkpoint: Path, dataset: Dataset) -> float:
    """mAP@0.5 over the dataset's classes."""
    network, tokenizer, _ = load_checkpoint(checkpoint)
    return round(evaluate_grounding(network, tokenizer, dataset, ("en",))["en"].map50, 4)


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Trains the three checkpoints and judges each on what it has learned so far."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    classes = {"old": arguments.old_classes, "new": arguments.new_classes}
    judging: dict[str, Dataset] = {}
    pictures: dict[str, int] = {}
    learned: set[str] = set()  # groups of which no picture judges
    for split, paths in (("train", arguments.train), ("val", arguments.val)):
        everything = join_datasets([read_dataset(path, split) for path in paths])
        everything = replace(everything, samples=tuple(s for s in everything.samples if s.group not in learned))
        if split == "train":
            learned = {sample.group for sample in everything.samples} - {""}
        for name, class_ids in classes.items():
            dataset = restrict(everything, class_ids)
            write_coco(dataset, out / f"{name}_{split}.json", {"description": f"{split}: {', '.join(class_ids)}"})
            pictures[f"{name}_{split}"] = len(dataset.samples)
            if split == "val":
                judging[name] = dataset
    before = out / "before" / "checkpoint"
    go_on = f"model={{checkpoint: {before}}}"
    keep = f"data.replay={{checkpoint: null, ratio: 0, capacity: {arguments.capacity}, save: true}}"
    mix = f"data.replay={{checkpoint: {before}, ratio: {arguments.ratio}, capacity: {arguments.capacity}, save: false}}"
    Run(configure(arguments, "before", "old", arguments.old_steps, [keep])).train()
    map50: dict[str, dict[str, float]] = {"before": {"old": judge(before, judging["old"])}}
    for run, settings in (("without_replay", [go_on]), ("with_replay", [go_on, mix])):
        Run(configure(arguments, run, "new", arguments.new_steps, settings)).train()
        checkpoint = out / run / "checkpoint"
        map50[run] = {name: judge(checkpoint, dataset) for name, dataset in judging.items()}
    steps = {"old": arguments.old_steps, "new": arguments.new_steps}
    return {"classes": classes, "pictures": pictures, "steps": steps, "ratio": arguments.ratio, "map50": map50}


def main() -> int:
    """Runs the command line; 2 for a configuration or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="network and training of all three runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="COCO files or DeepPCB folders")
    parser.add_argument("--val", type=Path, nargs="+", required=True)
    parser.add_argument("--old-classes", nargs="+", required=True, metavar="ID")
    parser.add_argument("--new-classes", nargs="+", required=True, metavar="ID")
    parser.add_argument("--old-steps", type=int, required=True)
    parser.add_argument("--new-steps", type=int, required=True)
    parser.add_argument("--ratio", type=float, default=0.5, help="share of crops that are replayed")
    parser.add_argument("--capacity", type=int, default=1000, help="pictures in the buffer")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides")
    arguments = parser.parse_args()
    try:
        report = {**origin(), **compare(arguments)}
    except (ConfigError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
