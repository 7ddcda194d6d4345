"""What the benchmarks judge by themselves: goals, failures, agreement; and that every report says where it is from."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contract.boxes import Detections
from tests.benchmarks.origin import origin
from tests.benchmarks.service import __main__ as command
from tests.benchmarks.service.agreement import agreeing, differing
from tests.benchmarks.service.goals import failures, goals_of
from tests.benchmarks.service.question import PROMPTS
from tests.benchmarks.service.servers import GATEWAY, IMAGE_ONCE, PER_PROMPT
from tests.benchmarks.service.yolo import OURS
from tests.conftest import ROOT


def ratio(latency: float, throughput: float) -> dict[str, Any]:
    return {"latency": {"median": latency}, "throughput": {"median": throughput}}


@pytest.mark.parametrize(
    ("part", "report", "met"),
    [
        (
            "compare",
            {
                "tile": {
                    "ratios": {f"{GATEWAY} : {PER_PROMPT}": ratio(15, 14.9), f"{GATEWAY} : {IMAGE_ONCE}": ratio(2.9, 3)}
                }
            },
            [True, False, False, True],
        ),
        ("cost", {"tile": {"over_direct_ms": {"p50": 3.0, "p99": 5.1}}}, [True, False]),
        ("overload", {"tile": {GATEWAY: {"goodput_past_the_knee": {"answered_per_s": 0.9}}}}, [True]),
        ("overload", {"tile": {GATEWAY: {"goodput_past_the_knee": {"answered_per_s": None}}}}, [False]),
        ("yolo", {"over_yolo": {OURS: {"latency": {"median": 1.01}}}}, [False]),
        ("growth", {}, []),
    ],
)
def test_a_goal_is_met_at_its_limit(part: str, report: dict[str, Any], met: list[bool]) -> None:
    assert [goal["met"] for goal in goals_of(part, report)] == met


def test_failures_are_found_wherever_a_report_has_them() -> None:
    report = {"tile": {"differing": 0, "rates": [{"failed": 0}, {"failed": 2}]}, "board": {"differing": 1}}
    assert failures(report, "part") == ["part, tile, rates, 1: 2 failed", "part, board: 1 differing"]


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 1)])
def test_a_missed_goal_is_told_and_only_a_failure_fails_the_command(
    failed: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"tile": {"over_direct_ms": {"p50": 9.0, "p99": 1.0}, "failed": failed}}

    async def measure(*_: object) -> dict[str, Any]:
        return found

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "keep_large_blocks", lambda: None)
    monkeypatch.setattr(sys, "argv", ["service", "cost", "--out", str(tmp_path)])
    assert command.main() == code
    said = capsys.readouterr().err
    assert "missed, tile, gateway over direct gRPC, p50, ms: at most 3: 9.0" in said
    assert ("failed: cost, tile: 1 failed" in said) == bool(failed)
    report = json.loads((tmp_path / "service_cost.json").read_text())
    assert {"at", "machine", "revision", "command", "goals", "tile"} == set(report)
    assert [goal["met"] for goal in report["goals"]] == [False, True]


def test_a_peer_without_its_environment_is_named_with_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LITSERVE", tmp_path / "python")
    monkeypatch.setattr(command, "GRAPH", tmp_path / "model.onnx")
    assert command.left_out(["compare", "yolo"]) == {"yolo"}
    said = capsys.readouterr().err
    assert "build/litserve/bin/pip install litserve" in said
    assert "yolo_graph.py" in said
    assert command.left_out(["growth"]) == set()
    assert capsys.readouterr().err == ""


def test_what_differs_is_counted() -> None:
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    direct = Detections(boxes, np.array([0.9, 0.5], np.float32), np.array([0, 1]))
    same = [
        {"prompt": PROMPTS[place], "score": score, "box": dict(zip("abcd", box, strict=True))}
        for place, (score, box) in enumerate(zip((0.9, 0.5), boxes.tolist(), strict=True))
    ]
    assert differing(same, direct) == 0
    assert differing(same[:1], direct) == 1
    assert differing([same[0], {**same[1], "score": 0.51}], direct) == 1
    assert differing([same[0], {**same[1], "prompt": PROMPTS[2]}], direct) == 1
    assert differing([same[0], {**same[1], "box": {"a": 5, "b": 6, "c": 7, "d": 8.1}}], direct) == 1


def test_boxes_agree_to_a_location_bin_and_each_with_one_only() -> None:
    box, moved, far = ({"prompt": "short", "box": [x, 0.0, 9.0, 9.0]} for x in (1.0, 1.26, 1.6))
    assert agreeing([box], [moved]) == 1
    assert agreeing([box], [far]) == 0
    assert agreeing([box], [far], bins=3) == 1
    assert agreeing([box, box], [moved]) == 0.5
    assert agreeing([box], [{**box, "prompt": "open"}]) == 0
    assert agreeing([], []) == 1


def test_a_report_says_when_where_of_what_and_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "tests.benchmarks.service", "a part"])
    made = origin()
    assert set(made) == {"at", "machine", "revision", "command"}
    assert {"processor", "cores", "cores_used", "priority", "load_average", "python"} == set(made["machine"])
    assert made["command"] == "python -m tests.benchmarks.service 'a part'"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made["revision"].startswith(head.stdout.strip() or "unknown")


def test_every_benchmark_that_prints_a_report_says_where_it_is_from() -> None:
    files = [file for file in Path(__file__).parent.glob("*.py") if "print(json.dumps(" in file.read_text()]
    assert len(files) >= 9
    assert [file.name for file in files if "origin()" not in file.read_text()] == []
