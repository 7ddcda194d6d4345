"""How long the stages of one request took, and what they did: for Server-Timing, the metrics and the trace.

The request at work is found by itself (a context variable, which tasks and threads inherit), so that a stage can be
measured wherever it happens. Work that belongs to no request is not measured.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import child_span, trace_id


class Measurement:
    """Of one request, or of one picture of a batch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}  # by stage; of stages that overlap, the time in which there was one
        self.tiles = 0
        self.batches: list[tuple[str, int]] = []  # model and rows of every request to Triton
        self._open: dict[str, tuple[int, float]] = {}

    def milliseconds(self, stage: str) -> float:
        """What a stage took; 0 if there was none."""
        return round(self.seconds.get(stage, 0.0) * 1e3, 2)

    def server_timing(self, request_seconds: float) -> str:
        """As the value of a Server-Timing header; `request` runs from the request's head to its answer's."""
        stages = {**self.seconds, "request": request_seconds}
        return ", ".join(f"{stage};dur={seconds * 1e3:.2f}" for stage, seconds in stages.items())

    def enter(self, stage: str) -> None:
        """A stage begins, perhaps beside another of its name."""
        number, began = self._open.get(stage, (0, time.perf_counter()))
        self._open[stage] = (number + 1, began)

    def leave(self, stage: str) -> None:
        """It ends."""
        number, began = self._open.pop(stage)
        if number > 1:
            self._open[stage] = (number - 1, began)
        else:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def record(self, metrics: Metrics) -> None:
        """Adds all of it to the metrics."""
        exemplar = {"trace_id": found} if (found := trace_id()) else None
        for stage, seconds in self.seconds.items():
            metrics.stage_seconds.labels(stage).observe(seconds, exemplar)
        if self.tiles:
            metrics.tiles.observe(self.tiles)
        for model, rows in self.batches:
            metrics.batch_rows.labels(model).observe(rows)


_CURRENT: ContextVar[Measurement | None] = ContextVar("measurement", default=None)


def current() -> Measurement:
    """That of the request at work."""
    return _CURRENT.get() or Measurement()


@contextmanager
def measured(metrics: Metrics) -> Iterator[Measurement]:
    """What happens within is measured by itself, and recorded at the end, however that comes."""
    measurement = Measurement()
    token = _CURRENT.set(measurement)
    try:
        yield measurement
    finally:
        _CURRENT.reset(token)
        measurement.record(metrics)


@contextmanager
def stage(name: str, attributes: dict[str, str | int] | None = None) -> Iterator[None]:
    """A stage of the request at work: timed, and a span of its trace with these attributes."""
    measurement = _CURRENT.get()
    if measurement is None:
        yield
        return
    with child_span(name, attributes):
        measurement.enter(name)
        try:
            yield
        finally:
            measurement.leave(name)
