"""What Prometheus reads at /metrics; label values come from fixed sets and the catalog only.

With several workers each keeps its values in files of one folder, and any of them shows the sum of all:
PROMETHEUS_MULTIPROC_DIR, which prometheus_client reads when it is imported, and gateway/workers.py sets.
"""

import os
import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gateway.errors import FAULT, STATUS

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# fmt: off
SECONDS = (
    0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07,
    0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0,
)
# fmt: on
TILES = (1, 2, 4, 9, 16, 25, 50, 100, 250, 500, 1000)
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)  # 8 is the largest batch of the detector
SCORES = tuple(tenths / 10 for tenths in range(1, 10))
OTHER_WORDS = "other"  # detections for words that name no known class
OTHER_ROUTES = "other"  # all but LEVEL_ROUTES, where rejects are counted
FAULT_REASON = "fault"  # an error that is none of gateway/errors.py
VERDICTS = ("ok", "ng")
OUTCOMES = ("written", "dropped")  # of what is recorded for review
KEY_REASONS = ("missing", "malformed", "unknown", "expired", "scope")
CONNECTION_REASONS = ("head", "send", "crowded")
LEVEL_ROUTES = ("/detect", "/detect/batch")  # of which the service levels are, and most alerts
STATUSES = ("200", *sorted({str(status) for status, _ in (*STATUS.values(), FAULT)}))
REASONS: dict[type[Exception], str] = {kind: kind.__name__.removesuffix("Error").lower() for kind in STATUS}


class Metrics:
    """The gateway's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("pcbd_requests_total", "Requests answered.", ("route", "status"), registry=own)
        self.request_seconds = Histogram(
            "pcbd_request_seconds", "From first byte to answer.", ("route",), buckets=SECONDS, registry=own
        )
        self.stage_seconds = Histogram(
            "pcbd_stage_seconds",
            "Stages of a request: body, catalog, decode, infer (prompts and triton within it), postprocess, masks, "
            "draw, serialize; picture, of a batch.",
            ("stage",),
            buckets=SECONDS,
            registry=own,
        )
        self.own_seconds = Histogram(
            "pcbd_own_seconds",
            "Detections without the time in which Triton was awaited.",
            buckets=SECONDS,
            registry=own,
        )
        self.tiles = Histogram("pcbd_tiles", "Tiles that a picture was cut into.", buckets=TILES, registry=own)
        self.batch_rows = Histogram(
            "pcbd_batch_rows", "Rows of a request to Triton.", ("model",), buckets=ROWS, registry=own
        )
        self.detections = Counter(
            "pcbd_detections_total", "Boxes reported, by defect class.", ("defect",), registry=own
        )
        self.scores = Histogram("pcbd_scores", "Scores of these boxes.", ("defect",), buckets=SCORES, registry=own)
        self.batch_images = Counter(
            "pcbd_batch_images_total", "Pictures of batches, by status.", ("status",), registry=own
        )
        self.verdicts = Counter("pcbd_verdicts_total", "Boards judged.", ("verdict",), registry=own)
        self.rejects = Counter(
            "pcbd_rejects_total",
            "Requests and pictures of batches without an answer, by why and where.",
            ("reason", "route"),
            registry=own,
        )
        self.in_flight = Gauge("pcbd_in_flight", "Detections at work.", registry=own, multiprocess_mode="livesum")
        self.ready = Gauge(
            "pcbd_ready", "1 while the models can be asked by every worker.", registry=own, multiprocess_mode="livemin"
        )
        self.workers = Gauge("pcbd_workers", "Workers that run.", registry=own, multiprocess_mode="livesum")
        self.database_up = Gauge(
            "pcbd_database_up",
            "1 while the database answers every worker.",
            registry=own,
            multiprocess_mode="livemin",
        )
        self.catalog_revision = Gauge(
            "pcbd_catalog_revision",
            "Revision of the defect catalog in use; the oldest, where workers differ.",
            registry=own,
            multiprocess_mode="livemin",
        )
        self._model_info = Gauge(
            "pcbd_model_info",
            "1 for the checkpoint in use, 0 for one that was.",
            ("name", "version", "checkpoint_sha256"),
            registry=own,
            multiprocess_mode="livemax",
        )
        self._model: tuple[str, str, str] | None = None
        self.circuit_state = Gauge(
            "pcbd_circuit_state",
            "The circuit breaker before Triton: 0 closed, 1 half-open, 2 open; the worst of all workers.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.circuit_opened = Counter(
            "pcbd_circuit_opened_total", "Times that the circuit breaker of a worker opened.", registry=own
        )
        self.expected_wait_seconds = Gauge(
            "pcbd_expected_wait_seconds",
            "Until Triton is through with the tiles ahead, as the last request found it.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.refused_keys = Counter(
            "pcbd_refused_keys_total", "API keys refused, by reason.", ("reason",), registry=own
        )
        self.dropped_connections = Counter(
            "pcbd_dropped_connections_total",
            "Connections given up: slow head, nothing taken of an answer, too many.",
            ("reason",),
            registry=own,
        )
        self.records = Counter(
            "pcbd_records_total", "Answers written for review, or dropped.", ("outcome",), registry=own
        )
        self.record_images = Counter(
            "pcbd_record_images_total", "Their pictures written, or dropped.", ("outcome",), registry=own
        )
        # From the start, at 0: Prometheus sees no increase in a series that begins with its first event.
        for counter, values in (
            (self.verdicts, VERDICTS),
            (self.batch_images, STATUSES),
            (self.refused_keys, KEY_REASONS),
            (self.dropped_connections, CONNECTION_REASONS),
            (self.records, OUTCOMES),
            (self.record_images, OUTCOMES),
        ):
            for value in values:
                counter.labels(value)
        for route in LEVEL_ROUTES:
            self.request_seconds.labels(route)
            for status in STATUSES:
                self.requests.labels(route, status)
        for reason in (*REASONS.values(), FAULT_REASON):
            for route in (*LEVEL_ROUTES, OTHER_ROUTES):
                self.rejects.labels(reason, route)
        build = Gauge("pcbd_build_info", "1.", ("version", "python"), registry=own, multiprocess_mode="livemax")
        build.labels(version("pcb-defect-detector"), platform.python_version()).set(1)
        self.workers.set(1)
        self._everyones: list[Collector] = []

    def add(self, collector: Collector) -> None:
        """Shows also what `collector` gives, which is the same in every worker."""
        self.registry.register(collector)
        self._everyones.append(collector)

    def count_reject(self, error: Exception, route: str) -> None:
        """One request, or one picture of a batch, that got an error instead of an answer."""
        known = route if route in LEVEL_ROUTES else OTHER_ROUTES
        self.rejects.labels(REASONS.get(type(error), FAULT_REASON), known).inc()

    def set_model(self, name: str, version: str, checkpoint_sha256: str) -> None:
        """The checkpoint that is in use from now on."""
        former, self._model = self._model, (name, version, checkpoint_sha256)
        if former is not None:
            self._model_info.labels(*former).set(0)  # files of several workers cannot forget a label
        self._model_info.labels(*self._model).set(1)

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """The text that Prometheus reads, of all workers, and its media type; blocks where it reads files."""
        registry = self.registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            for collector in self._everyones:
                registry.register(collector)
        encode, media_type = choose_encoder(accept or "")
        return encode(registry), media_type
