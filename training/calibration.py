"""The mathematics of honest scores: Platt scaling, calibration error, and thresholds with a proven false-call share.

Knows numpy only: nothing of networks, images or files. docs/calibration.md says what is guaranteed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = 1.0  # threshold of a class that is not reported
# Weight of the prior 'the scores are right as they are', in boxes: for all classes together, and for one class.
PRIOR_BOXES = 1.0
CLASS_PRIOR_BOXES = 16.0
NUM_BINS = 15
# Probabilities that a box is right, strictest first: from 0.993 down to 0.018 in steps of 0.05 of the logit.
LEVELS = 1 / (1 + np.exp(-np.arange(5.0, -4.0, -0.05)))
SMALLEST = 1e-7  # scores nearer to 0 or 1 have no logit that single precision could tell


@dataclass(frozen=True)
class Boxes:
    """Reported boxes of many boards: board_ids, class_ids, scores and whether each is right, all (N,)."""

    board_ids: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, keep: NDArray[np.bool_]) -> "Boxes":
        """The chosen boxes."""
        return Boxes(self.board_ids[keep], self.class_ids[keep], self.scores[keep], self.right[keep])

    def on(self, boards: NDArray[np.int64]) -> "Boxes":
        """The boxes of the given boards."""
        return self.take(np.isin(self.board_ids, boards))


@dataclass(frozen=True)
class Platt:
    """score -> sigmoid(scale * logit(score) + bias)."""

    scale: float
    bias: float

    def apply(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Scores in 0..1, scaled; the shape stays."""
        return np.asarray(_sigmoid(self.scale * _logit(scores) + self.bias))

    def score_at(self, probability: float) -> float:
        """The score that `apply` takes to a probability; NEVER if better scores do not mean better boxes."""
        if self.scale <= 0:
            return NEVER
        exponent = (self.bias - math.log(probability / (1 - probability))) / self.scale
        return 1 / (1 + math.exp(exponent)) if exponent < 700 else 0.0


def fit_platt(scores: NDArray[np.floating[Any]], right: NDArray[np.bool_], prior_boxes: float = PRIOR_BOXES) -> Platt:
    """The scaling under which scores (N,) are the likeliest probabilities of being right (N,).

    Platt, Probabilistic Outputs for Support Vector Machines, 1999. Instead of his softened targets a normal prior
    around the identity keeps the fit finite where all boxes are right, or wrong, or where there are few.
    """
    inputs = np.stack([_logit(scores), np.ones(len(scores))], axis=1)
    targets = right.astype(np.float64)
    identity = np.array([1.0, 0.0])

    def loss(weights: NDArray[np.float64]) -> float:
        logits = inputs @ weights
        prior = 0.5 * prior_boxes * float(((weights - identity) ** 2).sum())
        return float((np.logaddexp(0, logits) - targets * logits).sum()) + prior

    weights = identity
    for _ in range(100):  # Newton's method, on a convex function
        probabilities = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (probabilities - targets) + prior_boxes * (weights - identity)
        curvature = (inputs * (probabilities * (1 - probabilities))[:, None]).T @ inputs + prior_boxes * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return Platt(float(weights[0]), float(weights[1]))


def expected_calibration_error(
    scores: NDArray[np.floating[Any]], right: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> float:
    """Mean distance between score and share of right boxes over bins of equally many boxes; NaN without boxes.

    Guo et al., On Calibration of Modern Neural Networks, 2017, with the bins of Nixon et al., 2019.
    """
    if not len(scores):
        return math.nan
    bins = np.array_split(np.argsort(scores, kind="stable"), min(num_bins, len(scores)))
    gaps = [len(rows) * abs(float(scores[rows].mean()) - float(right[rows].mean())) for rows in bins]
    return sum(gaps) / len(scores)


def fit_classes(boxes: Boxes, num_classes: int) -> list[Platt | None]:
    """What the scores of each class are worth; None for a class of which no box is right."""
    chosen = [boxes.take(boxes.class_ids == index) for index in range(num_classes)]
    return [fit_platt(own.scores, own.right, CLASS_PRIOR_BOXES) if own.right.any() else None for own in chosen]


def class_thresholds(worth: Sequence[Platt | None], level: float, lowest: float) -> NDArray[np.float32]:
    """Per class the score from which a box is right with probability `level`; at least `lowest`, at most NEVER.

    Rounded to six decimals, so that what is tested is what a file can say.
    """
    scores = [NEVER if platt is None else platt.score_at(level) for platt in worth]
    return np.asarray(np.round(np.clip(scores, lowest, NEVER), 6), dtype=np.float32)


def is_reported(boxes: Boxes, thresholds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes reach the threshold of their class, as `merge_tiles` decides it."""
    return np.asarray(boxes.scores >= thresholds[boxes.class_ids])


def false_call_shares(boxes: Boxes, boards: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of wrong boxes on each of the boards (B,); 0 for a board without boxes.

    Its expectation is the false discovery rate of Benjamini & Hochberg, 1995.
    """
    length = int(boards.max()) + 1
    reported = np.bincount(boxes.board_ids, minlength=length)
    wrong = np.bincount(boxes.board_ids, ~boxes.right, minlength=length)
    return np.asarray((wrong / np.maximum(reported, 1))[boards])


def log_evidence(shares: NDArray[np.float64], max_false_calls: float) -> float:
    """The logarithm of an e-value against 'the expected false-call share is above the budget', from boards (B,).

    The wealth of a gambler who stakes all of it on each board in turn: prod(1 + budget - share). Under the
    hypothesis a bet of independent boards wins nothing on average, so by Markov's inequality the wealth reaches
    1 / (1 - confidence) with probability 1 - confidence at most, whatever the number of boards and however shares
    in 0..1 are distributed (Waudby-Smith & Ramdas, Estimating Means of Bounded Random Variables by Betting, 2023).
    The stake is fixed since false calls are rare and small: more than Hoeffding's bound can use.
    """
    with np.errstate(divide="ignore"):  # a budget of 0 and a board of false calls only: ruin
        return float(np.log1p(max_false_calls - shares).sum())


def boards_needed(max_false_calls: float, confidence: float) -> int | None:
    """How many boards without one false call prove the budget; None if no number does."""
    if max_false_calls == 0:
        return None
    return math.ceil(-math.log(1 - confidence) / math.log1p(max_false_calls))


def find_level(
    shares_at: Callable[[float], NDArray[np.float64]],
    max_false_calls: float,
    confidence: float,
    levels: Iterable[float] = LEVELS,
) -> float | None:
    """The last level that passes before the first that fails, strictest first; None if the strictest fails.

    Fixed-sequence testing: the order of the levels is known beforehand and the search ends at the first failure, so
    that all tests together err with probability 1 - confidence at most (Angelopoulos et al., Learn then Test, 2021).
    It holds only if `shares_at` was made without a look at the boards that it judges.
    """
    passed: float | None = None
    for level in levels:
        if log_evidence(shares_at(level), max_false_calls) < -math.log(1 - confidence):
            break
        passed = level
    return passed


@dataclass(frozen=True)
class Parts:
    """Boards by their use, as indices: scores are fitted on `fit`, thresholds tested on `test`, both judged on
    `judging`; `unit` says what was drawn, whole board groups or boards."""

    fit: NDArray[np.int64]
    test: NDArray[np.int64]
    judging: NDArray[np.int64]
    unit: str


MIN_GROUPS = 6  # in either half, to divide by groups
FIT_SHARE = 0.15  # of the calibration boards: two numbers per class need few boards, a proof needs many


def split_boards(groups: Sequence[str], calibration_share: float, seed: int) -> Parts:
    """Divides boards, given by the group of each, at random; every part gets one board at least.

    A board whose group is not known, '', is one by itself.

    Raises:
        ValueError: fewer than three boards.
    """
    if len(groups) < 3:
        raise ValueError(f"{len(groups)} boards cannot be divided into three parts; expected 3 at least")
    rng = np.random.default_rng(seed)
    known = [group or f" {number}" for number, group in enumerate(groups)]  # no group's name begins so
    names, of_board = np.unique(np.array(known), return_inverse=True)
    halves = _cut(rng.permutation(len(names)), of_board, calibration_share)
    unit = "groups"
    if min(len(half) for half in halves) < MIN_GROUPS:
        of_board, unit = np.arange(len(groups)), "boards"
        halves = _cut(rng.permutation(len(groups)), of_board, calibration_share, least=2)
    fit, test = _cut(halves[0], of_board, FIT_SHARE)
    fit_boards, test_boards, judging = (np.flatnonzero(np.isin(of_board, part)) for part in (fit, test, halves[1]))
    return Parts(fit_boards, test_boards, judging, unit)


def _cut(
    units: NDArray[np.int64], of_board: NDArray[np.int64], share: float, least: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts a sequence of units where the first part holds about `share` of the boards, `least` units at least."""
    boards = np.cumsum(np.bincount(of_board)[units])
    where = int(np.abs(boards - share * boards[-1]).argmin()) + 1
    where = max(least, min(where, len(units) - 1))
    return units[:where], units[where:]


def _logit(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    clipped = np.clip(scores.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
