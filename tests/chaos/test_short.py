"""The short forms of the trust suite and of the soak, and that their limits can be missed."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.soak import Answered, Sample, judge
from tests.chaos.trial import Outcome, Scale
from tests.conftest import run_module


def test_the_service_stands_what_breaks_it(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    ended = run_module("tests.chaos", "--short", "--out", str(out))
    assert ended.returncode == 0, ended.stderr[-4000:]
    trials = json.loads(out.read_text())["trials"]
    assert len(trials) == ended.stderr.count("within its limits") > 10


def test_a_missed_limit_is_told() -> None:
    full, short = Outcome(Scale(short=False)), Outcome(Scale(short=True))
    for outcome in (full, short):
        outcome.same("lost", 1, 0)
        outcome.most("slowest_s", float("nan"), 2)
        outcome.quick("p99_ms", 300, 250)
        outcome.brisk("goodput", 0.9, 0.9)
    assert [fault.split()[0] for fault in full.missed] == ["lost", "slowest_s", "p99_ms"]
    assert [fault.split()[0] for fault in short.missed] == ["lost", "slowest_s"]
    assert short.figures["p99_ms"] == {"value": 300, "most": 250}


def test_the_soak_answers_all_and_tells_what_it_judges(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    ended = run_module("tests.chaos.soak", "--short", "--out", str(out))
    assert ended.returncode == 0, ended.stderr[-4000:]
    report = json.loads(out.read_text())
    assert report["answers"]["value"].keys() == {"200"}
    assert report["answers"]["value"] == report["answers"]["expected"]
    assert {"at", "command", "machine", "rss_slope_mb_per_hour_at_most", "p99_drift", "descriptors_growth"} <= set(
        report
    )
    assert len(report["windows"]) == 24
    assert report["rss_mb"]["most"] > 0


def soaked(mb_per_hour: float = 0, descriptors: int = 0, slower_by: float = 0, noise_mb: float = 0.3) -> list[str]:
    """What is missed of half an hour in which memory, descriptors and latency grow by so much."""
    seconds, rng, outcome = 1800, np.random.default_rng(0), Outcome(Scale(short=False))
    noise = rng.normal(0, noise_mb, seconds)
    samples = [
        Sample(at, 184 + noise[at] + mb_per_hour * at / 3600, 40 + at % 5 + descriptors * at // seconds)
        for at in range(seconds)
    ]
    answers = [Answered(at / 20, 0.05 * (1 + slower_by * at / 20 / seconds)) for at in range(20 * seconds)]
    judge(samples, answers, seconds, outcome)
    return [fault.split()[0] for fault in outcome.missed]


def test_a_soak_in_which_nothing_grows_passes() -> None:
    assert soaked() == []


@pytest.mark.parametrize(
    ("growth", "missed"),
    [
        ({"mb_per_hour": 4}, "rss_slope_mb_per_hour_at_most"),
        ({"noise_mb": 30}, "rss_slope_mb_per_hour_at_most"),  # too noisy to say that it does not grow
        ({"mb_per_hour": float("nan")}, "rss_slope_mb_per_hour_at_most"),
        ({"descriptors": 6}, "descriptors_growth"),
        ({"slower_by": 0.3}, "p99_drift"),
    ],
)
def test_a_soak_in_which_something_grows_is_a_miss(growth: dict[str, float], missed: str) -> None:
    assert soaked(**growth) == [missed]


def test_a_soak_of_nothing_is_a_miss() -> None:
    outcome = Outcome(Scale(short=False))
    judge([], [], 1800, outcome)
    assert len(outcome.missed) == 3
