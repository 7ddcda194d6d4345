"""The trust suite's short form, and that its limits can be missed."""

import json
from pathlib import Path

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
