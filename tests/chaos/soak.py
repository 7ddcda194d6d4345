"""The soak: a steady load at 70 % of capacity for long, and whether anything creeps.

    python -m tests.chaos.soak [--minutes 30] [--short] [--out docs/benchmarks/soak.json]

What a request needs stays with the process for the next one, so memory grows with the most that were at work together,
and descriptors with the most connections to the database, of which a pool keeps a few: as many as the gateway takes are
asked for beforehand, of boards and of the list of inspections. Memory and descriptors are read every second and
averaged by windows of time; the first fifth is warming up. A line through the windows' memory must be shown to rise by
no more than 3 MB an hour: the upper bound of its slope is judged, one-sided, 99 %, so a soak too short or too noisy to
say fails. Descriptors and p99 of the last third are compared with those of the first after the warm-up. Exit code 1 if
something creeps. JSON goes to stdout or --out. --short is what CI runs: some seconds, whose memory, descriptors and p99
it tells and does not judge.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.stats import linregress
from scipy.stats import t as student

from gateway.settings import Settings
from tests.benchmarks.origin import origin
from tests.chaos.grounds import Gateway, Grounds
from tests.chaos.load import Load, p99
from tests.chaos.pressure import capacity_per_s, steady_share
from tests.chaos.trial import Outcome, Scale

SHORT_S = 4.0
WARM_UP = 0.2  # of the time
WINDOWS = 24
SAMPLES = 10  # in a window, at least
MOST_AT_WORK = Settings().max_in_flight
CONFIDENCE = 0.99
MOST_MB_PER_HOUR = 3.0
NAN = float("nan")


@dataclass(frozen=True)
class Sample:
    """What a gateway held at one moment."""

    at_s: float  # since the load began
    rss_mb: float
    descriptors: int


@dataclass(frozen=True)
class Answered:
    """One answer."""

    at_s: float  # since the load began
    seconds: float  # that it took


class Watcher(threading.Thread):
    """Reads memory and descriptors of a gateway every `interval_s`, until it is told to end."""

    def __init__(self, gateway: Gateway, began: float, interval_s: float) -> None:
        super().__init__()
        self.samples: list[Sample] = []
        self.ending = threading.Event()
        self._gateway = gateway
        self._began = began  # of time.perf_counter
        self._interval_s = interval_s

    def run(self) -> None:
        """Until `ending`."""
        while not self.ending.wait(self._interval_s):
            at_s = time.perf_counter() - self._began
            self.samples.append(Sample(at_s, self._gateway.rss_bytes / 1e6, self._gateway.descriptors))


def soak(gateway: Gateway, seconds: float, scale: Scale, outcome: Outcome) -> None:
    """Asks, and judges the answers, memory, latency and descriptors."""
    rate = steady_share(scale) * capacity_per_s(gateway, scale)
    Load(gateway.url).by_clients(MOST_AT_WORK, scale.number(40, 2) * MOST_AT_WORK)
    with ThreadPoolExecutor(MOST_AT_WORK) as pool:
        lists = pool.map(lambda _: gateway.status("/inspections"), range(scale.number(40, 2) * MOST_AT_WORK))
        outcome.same("lists_of_inspections", sorted(set(lists)), [200])
    load, began = Load(gateway.url), time.perf_counter()
    watcher = Watcher(gateway, began, min(1.0, seconds / WINDOWS / SAMPLES))
    watcher.start()
    try:
        load.at_rate(rate, seconds)
    finally:
        watcher.ending.set()
        watcher.join()
    outcome.note("minutes", seconds / 60)
    outcome.note("rate_per_s", rate)
    outcome.same("answers", dict(load.statuses()), {"200": round(rate * seconds)})
    judge(watcher.samples, [Answered(answer.at - began, answer.seconds) for answer in load.answers], seconds, outcome)


def judge(samples: Sequence[Sample], answers: Sequence[Answered], seconds: float, outcome: Outcome) -> None:
    """Whether memory, descriptors or latency have crept in that time."""
    edges = np.linspace(WARM_UP, 1, WINDOWS + 1) * seconds
    windows = [_window(samples, answers, start, end) for start, end in pairwise(map(float, edges))]
    outcome.note("windows", windows)
    rss = [window["rss_mb"] for window in windows]
    line = linregress((edges[:-1] + edges[1:]) / 2, rss)
    bound = float(line.slope + student.ppf(CONFIDENCE, WINDOWS - 2) * line.stderr)
    outcome.note("rss_mb", {"first": rss[0], "last": rss[-1], "most": max((s.rss_mb for s in samples), default=NAN)})
    outcome.note("rss_slope_mb_per_hour", float(line.slope) * 3600)
    outcome.quick("rss_slope_mb_per_hour_at_most", bound * 3600, MOST_MB_PER_HOUR)
    third = WINDOWS // 3
    first = _window(samples, answers, float(edges[0]), float(edges[third]))
    last = _window(samples, answers, float(edges[-1 - third]), float(edges[-1]))
    outcome.note("first_third", first)
    outcome.note("last_third", last)
    outcome.quick("p99_drift", last["p99_ms"] / first["p99_ms"] - 1, 0.1)
    outcome.quick("descriptors_growth", last["descriptors"] - first["descriptors"], 0)


def _window(samples: Sequence[Sample], answers: Sequence[Answered], start: float, end: float) -> dict[str, float]:
    """Memory's mean, the descriptors' median and the latencies' p99 of a time; NaN of nothing."""
    inside = [sample for sample in samples if start <= sample.at_s < end]
    return {
        "from_s": round(start, 1),
        "rss_mb": round(fmean(sample.rss_mb for sample in inside), 3) if inside else NAN,
        "descriptors": median(sample.descriptors for sample in inside) if inside else NAN,
        "p99_ms": round(p99([answer.seconds for answer in answers if start <= answer.at_s < end]) * 1e3, 2),
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--short", action="store_true", help="some seconds; tells what creeps and does not judge it")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    head, scale = origin(), Scale(arguments.short)
    outcome = Outcome(scale)
    with (
        tempfile.TemporaryDirectory(prefix="pcbd-soak-") as folder,
        Grounds(Path(folder), scale) as grounds,
        grounds.gateway() as gateway,
    ):
        soak(gateway, scale.seconds(arguments.minutes * 60, SHORT_S), scale, outcome)
    form = "short" if scale.short else "full"
    report: dict[str, Any] = {**head, "form": form, **outcome.figures, "missed": outcome.missed}
    text = json.dumps(report, indent=1)
    if arguments.out is None:
        print(text)  # noqa: T201
    else:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 1 if outcome.missed else 0


if __name__ == "__main__":
    sys.exit(main())
