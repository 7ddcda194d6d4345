"""The verdict on a board: by the gravest defect found on it, and how many there are of each."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from gateway.answer import Detection
from gateway.catalog.defect import Severity

Verdict = Literal["ok", "ng"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the least grave first


def verdict(detections: Sequence[Detection], ng_from: Severity) -> Verdict:
    """ng where a defect of that severity or a graver one was found, or what words describe that name no defect."""
    least = SEVERITIES.index(ng_from)
    grave = (found.severity is None or SEVERITIES.index(found.severity) >= least for found in detections)
    return "ng" if any(grave) else "ok"


def counts(detections: Sequence[Detection]) -> dict[str, int]:
    """How many detections there are of each defect, by its id; by their prompt where words name none."""
    return dict(Counter(found.defect or found.prompt for found in detections))
