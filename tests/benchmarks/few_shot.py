"""How well a checkpoint finds a defect that it never saw labelled: by description only, and after a few examples.

    python -m training.synth --n 1000 --kind heldout --seed 11 --out data/fewshot_examples
    python -m training.synth --n 200 --kind heldout --seed 12 --out data/fewshot_test
    python -m tests.benchmarks.few_shot --checkpoint C --work runs/few_shot --steps 150 \\
        --synth data/synth/annotations.json --synth-val data/synth_val/annotations.json \\
        --examples data/fewshot_examples/annotations.json --test data/fewshot_test/annotations.json \\
        [--shots 1 5 20] [--set section.field=value ...]

What is counted: a look is one held-out combination of shape, colour and place of a blemish, and a class of its own,
asked for by the first of its own sentences in a language. AP@0.5 over all test pictures; a box is right only upon a
defect of that very look. One upon another look or on a defect of another class is a false call, so the looks are
distractors of each other, many alike but for one word. The mean is over the looks that --examples shows as often as
the highest number of shots asks for; the others are left out, by name, but stay distractors. Some are rare, since few
boards have a place for them: of 200 pictures 2 to 17 show any one look.

Zero-shot is the checkpoint as it is. For every number of shots the checkpoint is fine-tuned afresh, --steps steps, by
training.train's own loop, from pictures in which exactly that many boxes of each look carry its sentences. All other
defects of these pictures stay labelled; further blemishes are blemishes without a sentence, of which training draws no
conclusion about the look. Half of the crops are replayed out of --synth, what the checkpoint learned from, lest it be
forgotten; what was forgotten all the same shows as mAP@0.5 on a slice of --synth-val. Only the grounding reading
learns and is judged. `ratio` is zero-shot by the best of the fine-tuned figures.

Given again, the command goes on where it was. Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.benchmarks.origin import origin
from training.config import Config, ConfigError, read_config
from training.data.coco import read_coco, write_coco
from training.data.dataset import Dataset, DatasetError
from training.data.described import by_description
from training.evaluate import evaluate_grounding
from training.learning.replay import ReplayBuffer
from training.network.checkpoint import REPLAY, CheckpointError, load_checkpoint
from training.prompts import LANGUAGES
from training.train import Run

BLEMISH = "blemish"  # the category whose looks are held out of training
REPLAYED = 500  # pictures of the earlier training that are learned again
Look = tuple[str, ...]  # the sentences that describe it


def looks_of(dataset: Dataset) -> Counter[Look]:
    """The looks of a dataset's blemishes with the number of boxes of each, in the order in which they come."""
    return Counter(
        texts
        for sample in dataset.samples
        for class_id, texts in zip(sample.class_ids, sample.descriptions, strict=True)
        if dataset.categories[class_id].id == BLEMISH and texts
    )


def choose_examples(dataset: Dataset, looks: Sequence[Look], shots: int) -> Dataset:
    """The pictures of the first `shots` boxes of each look; every other blemish in them loses its sentences.

    So the pictures of few shots are among those of more.

    Raises:
        DatasetError: names each look that the dataset shows less often.
    """
    taken: Counter[Look] = Counter()
    chosen = []
    for sample in dataset.samples:
        descriptions, is_example = list(sample.descriptions), False
        for row, class_id in enumerate(sample.class_ids):
            if dataset.categories[class_id].id != BLEMISH:
                continue
            look = sample.descriptions[row]
            if look in looks and taken[look] < shots:
                taken[look] += 1
                is_example = True
            else:
                descriptions[row] = ()
        if is_example:
            chosen.append(replace(sample, descriptions=tuple(descriptions)))
    scarce = [f"{look[0]!r} {taken[look]} times" for look in looks if taken[look] < shots]
    if scarce:
        raise DatasetError(f"the examples show {', '.join(scarce)}, expected {shots} of each; draw more pictures")
    return Dataset(dataset.categories, tuple(chosen))


def configure(arguments: argparse.Namespace, examples: Path, old: Path, shots: int) -> Config:
    """The configuration of a fine-tuning run of --steps steps: low rates, half of the crops replayed."""
    work: Path = arguments.work
    steps: int = arguments.steps
    data = f"sources: [{{path: {examples}}}], holdout: [{{path: {old}}}]"
    settings = [
        f"name=few_shot_{shots}",
        f"out={work / f'{shots}_shots'}",
        f"data={{{data}, replay: {{checkpoint: {work / 'earlier'}, ratio: 0.5, save: false}}}}",
        f"model={{checkpoint: {arguments.checkpoint}}}",
        "crops.paste=null",  # a blemish laid elsewhere belies what its sentences say about its place
        "crops.template_share=0",
        "train.lr=1.0e-4",
        "train.matrix_lr=3.0e-4",
        f"train.warmup_steps={steps // 10}",
        "train.ema_decay=0.97",
        "train.generative_share=0",
        f"train.validate_every={steps}",
        f"train.save_every={steps}",
        "train.stages=[{share: 1, mosaic: 0}]",
        *arguments.overrides,
    ]
    batch_size = read_config(arguments.config, settings).train.batch_size
    pictures = len(read_coco(examples).samples)
    return read_config(arguments.config, [*settings, f"train.max_epochs={steps * batch_size / pictures}"])


def judge(checkpoint: Path, test: Dataset, looks: Sequence[Look], old: Dataset) -> dict[str, Any]:
    """AP@0.5 of each look and their mean by language; mAP@0.5 of what was learned before, by its English names."""
    network, tokenizer, _ = load_checkpoint(checkpoint)
    report: dict[str, Any] = {}
    for language, figures in evaluate_grounding(network, tokenizer, by_description(test, BLEMISH)).items():
        ap50 = {look[0]: round(figures.ap50[look[0]], 4) for look in looks}
        report[language] = {"map50": round(fmean(ap50.values()), 4), "ap50": ap50}
    return {**report, "old_map50": round(evaluate_grounding(network, tokenizer, old, ("en",))["en"].map50, 4)}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Judges the checkpoint, fine-tunes it for each number of shots, and judges the outcomes."""
    work: Path = arguments.work
    checkpoint: Path = arguments.checkpoint
    _, _, manifest = load_checkpoint(checkpoint)
    test, examples = read_coco(arguments.test), read_coco(arguments.examples)
    test = Dataset(test.categories, test.samples[: arguments.test_images])
    shared = {sample.group for sample in test.samples} & {sample.group for sample in examples.samples} - {""}
    if shared:
        raise DatasetError(
            f"--examples and --test share {len(shared)} boards, {min(shared)} for one; use another --seed"
        )
    boxes, supply = looks_of(test), looks_of(examples)
    looks = [look for look in boxes if supply[look] >= max(arguments.shots)]
    if not looks:
        raise DatasetError(f"{arguments.examples} shows no look {max(arguments.shots)} times; draw more pictures")
    work.mkdir(parents=True, exist_ok=True)
    files = {shots: work / f"{shots}_shots.json" for shots in arguments.shots}
    for shots, file in files.items():
        write_coco(choose_examples(examples, looks, shots), file, {"description": f"{shots} examples of each look"})
    old_file, old = work / "old.json", read_coco(arguments.synth_val)
    old = Dataset(old.categories, old.samples[: arguments.old_images])
    write_coco(old, old_file, {"description": "what was learned before"})
    buffer = ReplayBuffer(REPLAYED)
    buffer.update(read_coco(arguments.synth))
    (work / "earlier").mkdir(exist_ok=True)
    buffer.save(work / "earlier" / REPLAY)
    outcomes: dict[int, dict[str, Any]] = {0: judge(checkpoint, test, looks, old)}
    for shots, file in files.items():
        run = Run(configure(arguments, file, old_file, shots))
        run.train()
        counted = {"pictures": len(run.dataset.samples), "seconds": round(run.seconds)}
        outcomes[shots] = judge(run.config.out / "checkpoint", test, looks, old) | counted
    best = {language: max(outcomes[shots][language]["map50"] for shots in files) for language in LANGUAGES}
    return {
        "checkpoint": manifest["name"],
        "steps": arguments.steps,
        "test_images": len(test.samples),
        "old_images": len(old.samples),
        "boxes": {look[0]: boxes[look] for look in looks},
        "left_out": [look[0] for look in boxes if look not in looks],
        "shots": outcomes,
        "ratio": {
            language: round(outcomes[0][language]["map50"] / best[language], 4) if best[language] else None
            for language in LANGUAGES
        },
    }


def main() -> int:
    """Runs the command line; 2 for a checkpoint, configuration or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--synth", type=Path, required=True, help="COCO file that the checkpoint learned from")
    parser.add_argument("--synth-val", type=Path, required=True, help="COCO file of the same kind that it did not")
    parser.add_argument("--examples", type=Path, required=True, help="COCO file of the looks to learn")
    parser.add_argument("--test", type=Path, required=True, help="COCO file of the same looks on other boards")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 20], help="examples of each look")
    parser.add_argument("--steps", type=int, default=150, help="of each fine-tuning run")
    parser.add_argument("--test-images", type=int, default=200, help="that many of --test at most")
    parser.add_argument("--old-images", type=int, default=60, help="that many of --synth-val at most")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--config", type=Path, default=Path("training/configs/pcb_twelve.yaml"), help="of all runs")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides")
    arguments = parser.parse_args()
    try:
        report = {**origin(), **compare(arguments)}
    except (CheckpointError, ConfigError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
