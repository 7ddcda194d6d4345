"""Makes a checkpoint's scores honest and finds the thresholds that hold a budget of false calls; trains nothing.

    python -m training.calibrate --checkpoint training/checkpoints/pcb_twelve --data ../shared/data/deeppcb \\
        --max-false-calls 0.05 [--confidence 0.9] [--calibration-share 0.5] [--seed 0] [--split val] [--out DIR]

The scaling goes into the grounding head's own scale and bias, so every later reading has it; the thresholds go into
manifest.json. docs/calibration.md says what is guaranteed. Without --out the checkpoint is replaced. Where nothing
can be proven it stays as it is: exit code 1. Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.calibrated import fold, write_calibrated
from training.calibration import (
    NEVER,
    Boxes,
    Parts,
    Platt,
    boards_needed,
    class_thresholds,
    expected_calibration_error,
    false_call_shares,
    find_level,
    fit_classes,
    fit_platt,
    is_reported,
    log_evidence,
    split_boards,
)
from training.data.dataset import Dataset, DatasetError
from training.data.source import read_judging
from training.evaluate import SCORE_THRESHOLD
from training.network.checkpoint import CheckpointError
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES
from training.reading.checkpoint import open_checkpoint
from training.reading.magnification import magnification
from training.reported import merge_samples, read_samples


class CalibrationError(RuntimeError):
    """The boards do not support what was asked for; the checkpoint stays as it is."""


def calibrate(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    dataset: Dataset,
    *,
    max_false_calls: float,
    confidence: float,
    calibration_share: float,
    seed: int,
    magnifications: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """Scales the scores of the network, whose head is changed, and finds thresholds; returns the report.

    Raises:
        CalibrationError: no box to learn from is right, scores do not rank boxes, or no thresholds that report
            one right box hold the budget.
        DatasetError: there are too few boards, or names of classes are too long to be asked for.
    """
    try:
        parts = split_boards([sample.group for sample in dataset.samples], calibration_share, seed)
    except ValueError as error:
        raise DatasetError(f"{error}; give a split with more boards") from error
    outputs = read_samples(network, tokenizer, dataset, magnifications)
    raw = merge_samples(dataset, outputs)
    scaling = fold(network.grounding, _fit(raw.on(parts.fit), len(parts.fit)))
    # Merged again, since boxes that a tile edge cuts get their share of the score only after the scaling.
    scaled = merge_samples(
        dataset,
        [[replace(look, scores=scaling.apply(look.scores).astype(np.float32)) for look in looks] for looks in outputs],
    )
    worth = fit_classes(scaled.on(parts.fit), len(dataset.categories))
    tested, judged = scaled.on(parts.test), scaled.on(parts.judging)

    def shares_at(level: float) -> NDArray[np.float64]:
        thresholds = class_thresholds(worth, level, SCORE_THRESHOLD)
        return false_call_shares(tested.take(is_reported(tested, thresholds)), parts.test)

    level = find_level(shares_at, max_false_calls, confidence)
    if level is None:
        raise CalibrationError(_refusal(max_false_calls, confidence, parts))
    thresholds = class_thresholds(worth, level, SCORE_THRESHOLD)
    if not tested.right[is_reported(tested, thresholds)].any():  # boards without boxes have a share of 0, and pass
        raise CalibrationError(_refusal_of_silence(max_false_calls, parts))
    raw_judged = raw.on(parts.judging)
    same = raw_judged.take(scaling.apply(raw_judged.scores) >= SCORE_THRESHOLD)  # the boxes that are judged scaled
    return {
        "scale": scaling.scale,
        "bias": scaling.bias,
        "score_thresholds": {
            defect.id: round(float(threshold), 6)
            for defect, threshold in zip(dataset.categories, thresholds, strict=True)
        },
        "never_reported": {
            defect.id: f"no box of it was right with probability {level:.3f} on the {len(parts.fit)} boards that "
            "scores were fitted on; calibrate with more boards that show it"
            for defect, threshold in zip(dataset.categories, thresholds, strict=True)
            if threshold >= NEVER
        },
        "max_false_calls": max_false_calls,
        "confidence": confidence,
        "level": round(level, 6),
        "log_evidence": round(log_evidence(shares_at(level), max_false_calls), 4),
        "split_by": parts.unit,
        "seed": seed,
        "calibration_share": calibration_share,
        "magnification": list(magnifications),
        "boards": {"fit": len(parts.fit), "test": len(parts.test), "judging": len(parts.judging)},
        "boxes": {"fit": len(scaled.on(parts.fit)), "test": len(tested), "judging": len(judged)},
        "calibration_error": {
            "before": _rounded(expected_calibration_error(same.scores, same.right)),
            "after": _rounded(expected_calibration_error(judged.scores, judged.right)),
        },
        "judging": judge_thresholds(judged, thresholds, dataset, parts.judging),
    }


def judge_thresholds(
    judged: Boxes, thresholds: NDArray[np.float32], dataset: Dataset, judging: NDArray[np.int64]
) -> dict[str, Any]:
    """The figures of the boxes that reach their class's threshold, on the boards that nothing was learned from.

    `false_call_rate` is the share of all boxes, `mean_false_call_share` the mean of the boards' shares, which is what
    the guarantee is about. Boxes and defects count once for each language.
    """
    reported = judged.take(is_reported(judged, thresholds))
    truths = len(LANGUAGES) * np.bincount(
        np.concatenate([dataset.samples[index].class_ids for index in judging]), minlength=len(dataset.categories)
    )
    right = np.bincount(reported.class_ids[reported.right], minlength=len(dataset.categories))
    wrong = np.bincount(reported.class_ids[~reported.right], minlength=len(dataset.categories))
    return {
        **_rates(int(right.sum()), int(wrong.sum()), int(truths.sum())),
        "mean_false_call_share": _rounded(float(false_call_shares(reported, judging).mean())),
        "classes": {
            defect.id: _rates(int(right[index]), int(wrong[index]), int(truths[index]))
            for index, defect in enumerate(dataset.categories)
        },
    }


def _fit(boxes: Boxes, num_boards: int) -> Platt:
    if not boxes.right.any():
        raise CalibrationError(
            f"none of {len(boxes)} boxes on {num_boards} boards is right, there is nothing to learn from; "
            "give labelled boards like those of the training, or train longer"
        )
    platt = fit_platt(boxes.scores, boxes.right)
    if platt.scale <= 0:
        raise CalibrationError(
            f"on {num_boards} boards better scores do not mean better boxes (scale {platt.scale:.3f}); train longer"
        )
    return platt


def _refusal(max_false_calls: float, confidence: float, parts: Parts) -> str:
    needed = boards_needed(max_false_calls, confidence)
    tested = f"{len(parts.test)} {'boards' if len(parts.test) > 1 else 'board'}"
    if needed is None:
        return "a budget of 0 false calls cannot be proven by any number of boards; give --max-false-calls above 0"
    reason = (
        f"without one false call it takes {needed} boards, and there are {tested} to test on"
        if len(parts.test) < needed
        else f"even the most certain boxes are wrong too often on the {tested} to test on"
    )
    return (
        f"no thresholds hold {max_false_calls:g} false calls with confidence {confidence:g}: {reason}. "
        "Give more boards, a larger --calibration-share or --max-false-calls, or less --confidence"
    )


def _refusal_of_silence(max_false_calls: float, parts: Parts) -> str:
    return (
        f"only thresholds that report no right box on the {len(parts.test)} boards to test on hold {max_false_calls:g} "
        "false calls; look at the best-scored wrong boxes, a missing label is one, give more boards or train longer"
    )


def _rates(right: int, wrong: int, truths: int) -> dict[str, Any]:
    reported = right + wrong
    return {
        "false_call_rate": _rounded(wrong / reported) if reported else None,
        "precision": _rounded(right / reported) if reported else None,
        "recall": _rounded(right / truths) if truths else None,
        "reported": reported,
        "wrong": wrong,
        "truths": truths,
    }


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _fraction(text: str) -> float:
    """A number in 0..1, ends included."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _inner_fraction(text: str) -> float:
    """A number in 0..1, ends excluded."""
    value = _fraction(text)
    if value in (0, 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def main() -> int:
    """Runs the command line; 1 when the boards prove nothing, 2 when the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="labelled boards that training has not seen")
    parser.add_argument("--max-false-calls", type=_fraction, required=True, help="budget: share of wrong boxes, 0..1")
    parser.add_argument("--confidence", type=_inner_fraction, default=0.9, help="that the budget holds")
    parser.add_argument("--calibration-share", type=_inner_fraction, default=0.5, help="of the boards; the rest judge")
    parser.add_argument("--seed", type=int, default=0, help="of the division of the boards")
    text = "how large tiles show a board; several are looks of their own, as lines will ask"
    parser.add_argument("--magnification", type=magnification, nargs="+", default=[1.0], help=text)
    parser.add_argument("--out", type=Path, help="folder for the calibrated copy; it must not exist")
    arguments = parser.parse_args()
    target = arguments.out or arguments.checkpoint
    try:
        if arguments.out is not None and arguments.out.exists():
            raise CheckpointError(f"{arguments.out} exists; give a folder that does not, or leave --out away")
        network, tokenizer, manifest = open_checkpoint(arguments.checkpoint)
        dataset = read_judging(arguments.data, arguments.split)
        calibration = {"split": arguments.split} | calibrate(
            network,
            tokenizer,
            dataset,
            max_false_calls=arguments.max_false_calls,
            confidence=arguments.confidence,
            calibration_share=arguments.calibration_share,
            seed=arguments.seed,
            magnifications=arguments.magnification,
        )
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except CalibrationError as error:
        print(f"not calibrated: {error}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        write_calibrated(arguments.checkpoint, target, network.grounding, calibration)
    except OSError as error:
        print(f"error: {target} cannot be written: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps({"checkpoint": manifest["name"]} | calibration))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
