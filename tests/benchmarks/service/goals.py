"""What was aimed at and whether it was reached, and what must not happen at all.

A goal that is missed stays in the report, and docs/benchmarks/README.md says why; it is no failure of the benchmark.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from tests.benchmarks.service.servers import GATEWAY, IMAGE_ONCE, PER_PROMPT
from tests.benchmarks.service.yolo import OURS

TIMES_AHEAD = {PER_PROMPT: 15, IMAGE_ONCE: 3}
COST_MS = {"p50": 3, "p99": 5}
GOODPUT = 0.9  # of what the rate or the peak allows
FAILURES = ("failed", "differing")

Report = Mapping[str, Any]


class Goal(TypedDict):
    """One of them; `measured` is None where there was nothing to measure."""

    goal: str
    measured: float | None
    met: bool


def goals_of(part: str, report: Report) -> list[Goal]:
    """Those of a part of the suite, judged by what it found."""
    return GOALS[part](report) if part in GOALS else []


def failures(found: Any, place: str) -> list[str]:  # noqa: ANN401 - JSON
    """Where, within a report, requests failed or answers differed, and how many."""
    if not isinstance(found, dict | list):
        return []
    faults = []
    for name, value in found.items() if isinstance(found, dict) else enumerate(found):
        faults += failures(value, f"{place}, {name}")
        if name in FAILURES and value:
            faults.append(f"{place}: {value} {name}")
    return faults


def _least(goal: str, measured: float | None, limit: float) -> Goal:
    return {
        "goal": f"{goal}: at least {limit}",
        "measured": measured,
        "met": measured is not None and measured >= limit,
    }


def _most(goal: str, measured: float, limit: float) -> Goal:
    return {"goal": f"{goal}: at most {limit}", "measured": measured, "met": measured <= limit}


def _ahead(report: Report) -> list[Goal]:
    """By the medians of the rounds."""
    return [
        _least(f"{picture}, {kind}, times ahead of {peer}", ratio[kind]["median"], limit)
        for picture, comparison in report.items()
        for peer, limit in TIMES_AHEAD.items()
        if (ratio := comparison["ratios"].get(f"{GATEWAY} : {peer}"))
        for kind in ("latency", "throughput")
    ]


def _cost(report: Report) -> list[Goal]:
    """By all requests."""
    return [
        _most(f"{picture}, gateway over direct gRPC, {name}, ms", cost["over_direct_ms"][name], limit)
        for picture, cost in report.items()
        for name, limit in COST_MS.items()
    ]


def _goodput(report: Report) -> list[Goal]:
    return [
        _least(
            f"{picture}, goodput past the knee, of the rate or the peak",
            servers[GATEWAY]["goodput_past_the_knee"]["answered_per_s"],
            GOODPUT,
        )
        for picture, servers in report.items()
    ]


def _yolo(report: Report) -> list[Goal]:
    return [_most(f"a board, latency, {OURS}, times YOLOv8n's", report["over_yolo"][OURS]["latency"]["median"], 1)]


GOALS: Mapping[str, Callable[[Report], list[Goal]]] = {
    "compare": _ahead,
    "cost": _cost,
    "overload": _goodput,
    "yolo": _yolo,
}
