"""The quantised detectors of a target, each by another method: the fastest that passes the gate is kept.

A detector that fails is built again with its most sensitive layers in higher precision, more of them each time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.boards.calibration import Calibration
from export.contract.tensors import DETECTOR
from export.engines.sensitivity import sweep
from export.engines.targets import METHODS, build_engine, first_rows, load_built, median_latency_ms, size_bytes
from export.runtime.engine import Engine
from export.tensorrt.plan import NO_SWITCHES, Switches

KEPT_SHARES = (0.0, 0.1, 0.25, 0.5)  # of the layers, the most sensitive first
SWEPT_TILES = 4


@dataclass
class Candidate:
    """A detector of one method: where it lies, how it was judged, what it costs."""

    method: str
    folder: Path
    report: dict[str, Any]  # of the gate
    built: dict[str, Any]  # of the builder
    engine: Engine = field(repr=False)
    latency_ms: float = float("nan")

    @property
    def passed(self) -> bool:
        """Whether the gate lets it through."""
        return not self.report["faults"]

    def as_json(self) -> dict[str, Any]:
        """For the report of the build."""
        return {
            "method": self.method,
            "passed": self.passed,
            "latency_ms": round(self.latency_ms, 3),
            "size_bytes": size_bytes(self.folder),
            **self.built,
            **{name: self.report[name] for name in ("map50", "faults")},
        }


def quantised_detectors(
    graph: Path,
    target: str,
    precision: str,
    work: Path,
    calibration: Calibration,
    judge: Callable[[Engine], dict[str, Any]],
    say: Callable[[str], None],
    switches: Switches = NO_SWITCHES,
) -> list[Candidate]:
    """One detector for each method of a target, timed at batch 1 in turns; those that pass first, then by latency.

    Args:
        graph: the detector in fp32.
        work: an empty folder; each candidate lies in one of its own.
        calibration: rows for the detector's inputs.
        judge: the gate; the report's `faults` says whether an engine passes.
        say: told what goes on.
        switches: of TensorRT.
    """
    candidates: list[Candidate] = []
    sensitive: list[tuple[str, float]] = []
    for method in METHODS[target, precision]:
        for share in KEPT_SHARES:
            if share and not sensitive:
                say("detector: looking for the layers that bear int8 badly")
                sensitive = sweep(graph, DETECTOR.outputs, first_rows(calibration, SWEPT_TILES))
            keep = [name for name, _ in sensitive[: round(share * len(sensitive))]] if share else []
            folder = work / f"{method.replace(' ', '_')}_{len(keep)}"
            folder.mkdir(parents=True)
            say(f"detector: {precision} by {method}" + (f", {len(keep)} layers kept" if keep else ""))
            built = build_engine(
                graph, target, precision, folder, calibration, method=method, keep=keep, switches=switches
            )
            engine = load_built(folder)
            candidate = Candidate(method, folder, judge(engine), built, engine)
            if candidate.passed:
                break
            say("detector: " + "; ".join(candidate.report["faults"]))
        candidates.append(candidate)
    latencies = median_latency_ms([candidate.engine for candidate in candidates], first_rows(calibration, 1))
    for candidate, latency_ms in zip(candidates, latencies, strict=True):
        candidate.latency_ms = latency_ms
    return sorted(candidates, key=lambda candidate: (not candidate.passed, candidate.latency_ms))
