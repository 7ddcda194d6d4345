"""The soak: a steady load at 70 % of capacity for long, and whether anything creeps.

    python -m tests.chaos.soak [--minutes 30] [--out docs/benchmarks/soak.json]

What a request needs stays with the process for the next one, so memory grows with the most that were at work together:
as many as the gateway takes are asked for beforehand. Memory is read every second and averaged by windows; the first
fifth is warming up. It creeps if a line through the windows rises, significantly (one-sided t-test, 1 %), by
more than 1 MB an hour. p99 of the last third is compared with that of the first after the warm-up. Exit code 1 if
something creeps. JSON goes to stdout or --out.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import linregress

from gateway.settings import Settings
from tests.chaos.grounds import Gateway, Grounds
from tests.chaos.load import Load, p99
from tests.chaos.pressure import capacity_per_s
from tests.chaos.trial import Outcome, Scale

WARM_UP = 0.2  # of the time
WINDOWS = 24
MOST_AT_WORK = Settings().max_in_flight
SIGNIFICANT = 0.01
NEGLIGIBLE_MB_PER_HOUR = 1.0


class Watcher(threading.Thread):
    """Reads memory and descriptors of a gateway every second, until it is told to end."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.samples: list[tuple[float, float, int]] = []  # seconds, MB, descriptors
        self._gateway = gateway
        self.ending = threading.Event()

    def run(self) -> None:
        """Until `ending`."""
        began = time.monotonic()
        while not self.ending.wait(1):
            now = time.monotonic() - began
            self.samples.append((now, self._gateway.rss_bytes / 1e6, self._gateway.descriptors))


def soak(gateway: Gateway, seconds: float, outcome: Outcome) -> None:
    """Judges memory, latency and descriptors."""
    rate = 0.7 * capacity_per_s(gateway, Scale(short=False))
    Load(gateway.url).by_clients(MOST_AT_WORK, 40 * MOST_AT_WORK)
    watcher, load = Watcher(gateway), Load(gateway.url)
    watcher.start()
    try:
        began = time.perf_counter()
        load.at_rate(rate, seconds)
    finally:
        watcher.ending.set()
        watcher.join()
    outcome.note("minutes", seconds / 60)
    outcome.note("rate_per_s", rate)
    outcome.same("answers", dict(load.statuses()), {"200": len(load.answers)})
    times, memory, descriptors = np.array(watcher.samples).T
    warm = times >= WARM_UP * seconds
    windows = np.array_split(np.stack([times[warm], memory[warm]]), WINDOWS, axis=1)
    line = linregress(*np.array([window.mean(axis=1) for window in windows]).T, alternative="greater")
    per_hour = float(line.slope) * 3600
    outcome.note("rss_mb", {"first": float(memory[warm][0]), "last": float(memory[-1]), "most": float(memory.max())})
    outcome.note("rss_mb_by_window", [round(float(window[1].mean()), 2) for window in windows])
    outcome.note("rss_slope_p_value", float(line.pvalue))
    outcome.note("rss_slope_mb_per_hour", per_hour)
    outcome.same("memory_creeps", not (line.pvalue >= SIGNIFICANT or per_hour <= NEGLIGIBLE_MB_PER_HOUR), False)
    ended = [(answer.at - began, answer.seconds) for answer in load.answers]
    thirds = WARM_UP + (1 - WARM_UP) / 3, 1 - (1 - WARM_UP) / 3
    first = p99([each for at, each in ended if WARM_UP * seconds <= at < thirds[0] * seconds])
    last = p99([each for at, each in ended if at >= thirds[1] * seconds])
    outcome.note("p99_ms", {"first_third": first * 1e3, "last_third": last * 1e3})
    outcome.most("p99_drift", last / first - 1, 0.1)
    outcome.most("descriptors_growth", int(descriptors[-10:].min() - descriptors[warm][:10].max()), 0)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    scale = Scale(short=False)
    outcome = Outcome(scale)
    with (
        tempfile.TemporaryDirectory(prefix="pcbd-soak-") as folder,
        Grounds(Path(folder), scale) as grounds,
        grounds.gateway() as gateway,
    ):
        soak(gateway, arguments.minutes * 60, outcome)
    report: dict[str, Any] = {**outcome.figures, "missed": outcome.missed}
    text = json.dumps(report, indent=1)
    if arguments.out is None:
        print(text)  # noqa: T201
    else:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 1 if outcome.missed else 0


if __name__ == "__main__":
    sys.exit(main())
