"""The trust suite: the service broken on purpose, with a limit for each figure.

    python -m tests.chaos [--trials 1 4 7] [--short] [--scale 0.2] [--out docs/benchmarks/chaos.json]

Trials are numbered as in docs/reliability.md; all of them by default. One line for each goes to stderr, JSON to
stdout or --out. Exit code 1 if a limit was missed. --scale makes counts and durations smaller; the JSON says so.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tests.benchmarks.origin import origin
from tests.chaos.bombs import bombs
from tests.chaos.contract import contract
from tests.chaos.corrupt import corrupt
from tests.chaos.crash import crash
from tests.chaos.cut import cut
from tests.chaos.disk import disk
from tests.chaos.grounds import Grounds
from tests.chaos.images import images
from tests.chaos.injection import injection
from tests.chaos.keys import keys
from tests.chaos.memory import memory
from tests.chaos.pressure import growth, overload, steady
from tests.chaos.requests import requests
from tests.chaos.slow import slow
from tests.chaos.stopping import sigterm
from tests.chaos.trial import Outcome, Scale
from tests.chaos.triton_faults import killed, stuck

TRIALS: dict[int, tuple[str, Callable[[Grounds, Scale, Outcome], None]]] = {
    1: ("steady load", steady),
    2: ("overload", overload),
    3: ("growth", growth),
    4: ("Triton killed", killed),
    5: ("Triton stuck", stuck),
    6: ("network cut", cut),
    7: ("SIGTERM", sigterm),
    8: ("out of memory", memory),
    9: ("disk full, root read-only", disk),
    10: ("damaged repository", corrupt),
    11: ("damaged pictures", images),
    12: ("bombs", bombs),
    13: ("slow clients", slow),
    14: ("keys and addresses", keys),
    15: ("contract", contract),
    16: ("damaged requests", requests),
    17: ("killed while writing", crash),
    18: ("injection", injection),
}

# Not in the short form: 8 takes a machine to itself, and its cgroups have tests; 10 and 15 have tests of their own
# (tests/export/test_repository.py, test_replacement.py, gateway/test_openapi.py).
LONG = {8, 10, 15}


def run(scale: Scale, numbers: Collection[int]) -> dict[str, Any]:
    """The report; its `missed` are the limits that were."""
    head, began = origin(), time.monotonic()
    trials: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pcbd-chaos-") as folder, Grounds(Path(folder), scale) as grounds:
        for number in numbers:
            name, trial = TRIALS[number]
            outcome, started = Outcome(scale), time.monotonic()
            try:
                trial(grounds, scale, outcome)
            except Exception as error:  # noqa: BLE001 - a trial that breaks off has failed; the others go on
                traceback.print_exc()
                outcome.missed.append(f"broke off: {error!r}")
            seconds = round(time.monotonic() - started, 1)
            trials[str(number)] = {"name": name, "seconds": seconds, "missed": outcome.missed, **outcome.figures}
            say(f"trial {number}, {name}: {'; '.join(outcome.missed) or 'within its limits'} ({seconds} s)")
    return {
        **head,
        "form": "short" if scale.short else "full",
        "scale": scale.factor,
        "seconds": round(time.monotonic() - began, 1),
        "trials": trials,
        "missed": [f"{number}: {fault}" for number, trial in trials.items() for fault in trial["missed"]],
    }


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", choices=list(TRIALS), metavar="N")
    parser.add_argument("--short", action="store_true", help="what CI runs: small, and no limits of time but hanging")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full form's counts and durations")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    numbers = arguments.trials or [number for number in TRIALS if not (arguments.short and number in LONG)]
    report = json.dumps(run(Scale(arguments.short, arguments.scale), numbers), indent=1, ensure_ascii=False)
    if arguments.out is None:
        print(report)  # noqa: T201
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report + "\n", encoding="utf-8")
    return 1 if json.loads(report)["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
