"""What Prometheus reads at /metrics; label values come from fixed sets and the catalog only."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
OTHER_WORDS = "other"  # detections for words that name no known class


class Metrics:
    """The gateway's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pcbd_requests_total", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "pcbd_request_seconds", "From first byte to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.stage_seconds = Histogram(
            "pcbd_stage_seconds",
            "Stages of a detection: decode, infer, postprocess.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.detections = Counter(
            "pcbd_detections_total", "Boxes reported, by defect class.", ("defect",), registry=self.registry
        )
        self.batch_images = Counter(
            "pcbd_batch_images_total", "Pictures of batches, by status.", ("status",), registry=self.registry
        )
        self.verdicts = Counter("pcbd_verdicts_total", "Boards judged.", ("verdict",), registry=self.registry)
        self.in_flight = Gauge("pcbd_in_flight", "Detections at work.", registry=self.registry)
        self.ready = Gauge("pcbd_ready", "1 while the models can be asked.", registry=self.registry)
        self.database_up = Gauge("pcbd_database_up", "1 while the database answers.", registry=self.registry)
        self.catalog_revision = Gauge(
            "pcbd_catalog_revision", "Revision of the defect catalog in use.", registry=self.registry
        )
        self.records = Counter(
            "pcbd_records_total", "Answers written for review, or dropped.", ("outcome",), registry=self.registry
        )
        self.record_images = Counter(
            "pcbd_record_images_total", "Their pictures written, or dropped.", ("outcome",), registry=self.registry
        )
