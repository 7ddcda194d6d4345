"""What an operator can set, each by the environment variable PCBD_NAME."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.telemetry.logs import LogFormat, LogLevel


class Settings(BaseSettings):
    """Defaults fit the embedded Triton on this machine."""

    model_config = SettingsConfigDict(env_prefix="PCBD_", env_ignore_empty=True, frozen=True, protected_namespaces=())

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)  # processes on that port; limits below are each one's own
    triton_url: str = "127.0.0.1:8001"  # gRPC
    triton_shared_memory: bool = False  # tiles go through /dev/shm; Triton on the same host, as a user that can read it
    model_repository: Path = Path("model_repository")  # the tokenizer is read from it

    # The defect catalog lives here: sqlite:///FILE (the folder is made) or postgresql://USER:PASSWORD@HOST/NAME.
    database_url: str = Field(default="sqlite:///data/gateway.db", pattern=r"^(sqlite:///.|postgresql(\+psycopg)?://)")

    log_level: LogLevel = "INFO"
    log_format: LogFormat | None = None  # for people where stderr is a terminal, else JSON
    record: bool = True  # keep each answer in the database, for people to review
    review_margin: float = Field(default=0.05, ge=0, le=1)  # a score this little above its threshold is worth a look
    review_random_share: float = Field(default=0.01, ge=0, le=1)  # of all other answers: worth a look by chance
    # Pictures worth a look are kept here: file:///FOLDER, s3://BUCKET/PREFIX, gs:// or az://. Empty keeps none.
    image_store: str = Field(default="", pattern="^([a-z0-9]+://.+)?$")
    image_store_budget_bytes: int = Field(default=10 * 2**30, ge=0)  # beyond it the oldest unreviewed pictures go
    record_retention_days: int = Field(default=90, gt=0)  # of what nobody reviewed, and of what was exported
    reviewed_retention_days: int = Field(default=365, gt=0)  # of reviews that were never exported
    # Who may ask: docs/security.md.
    api_keys: Literal["off", "required"] = "off"  # made by python -m gateway.access
    metrics_protected: bool = False  # /metrics needs a key of the scope admin

    # HTTPS: PEM files, the certificate and its key together. With an authority's, clients need a certificate of theirs.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    max_body_bytes: int = Field(default=64 * 2**20, gt=0)
    max_image_pixels: int = Field(default=64_000_000, gt=0)  # of an image held in memory
    max_line_scan_pixels: int = Field(default=300_000_000, gt=0)  # of a TIFF, which is read in bands above the other
    max_prompts: int = Field(default=64, gt=0, le=64)  # the largest prompt bucket of the contract
    max_prompt_characters: int = Field(default=400, gt=0)

    max_batch_images: int = Field(default=32, gt=0)  # of POST /detect/batch; together within max_body_bytes

    max_in_flight: int = Field(default=16, gt=0)  # requests at work; more are refused at once
    deadline_s: float = Field(default=10.0, gt=0)  # from a request's head to its answer; a client may allow less
    body_timeout_s: float = Field(default=10.0, gt=0)  # for a request's body to arrive, within the deadline
    head_timeout_s: float = Field(default=10.0, gt=0)  # for a request's head to arrive
    send_timeout_s: float = Field(default=10.0, gt=0)  # an answer of which the client takes nothing so long is given up
    max_connections: int = Field(default=512, gt=0)  # of a worker; well below the system's own limit, ulimit -n
    idempotency_window_s: float = Field(default=600.0, ge=0)  # an answer is kept for repeats of its Idempotency-Key
    idempotency_max_bytes: int = Field(default=32 * 2**20, ge=0)  # of kept answers, as JSON
    watch_interval_s: float = Field(default=1.0, gt=0)  # between looks at Triton's state
    canary_version: int | None = None  # served beside the promoted version, for requests that name none
    canary_share: float = Field(default=0.0, ge=0, le=1)  # of them, by board_id, else by request
    circuit_failures: int = Field(default=5, gt=0)  # requests in a row that Triton fails before others are refused
    drain_s: float = Field(default=2.0, ge=0)  # from 'not ready' to closing, at SIGTERM

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.metrics_protected and self.api_keys == "off":
            raise ValueError(
                "PCBD_METRICS_PROTECTED needs PCBD_API_KEYS=required: without keys nothing protects /metrics"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("PCBD_TLS_CERTIFICATE and PCBD_TLS_KEY belong together: set both, or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("PCBD_TLS_CLIENT_CA needs PCBD_TLS_CERTIFICATE and PCBD_TLS_KEY")
        return self


def faults_of_settings(error: ValidationError) -> str:
    """Every fault with the variable's name, for whoever starts a command."""
    names = ("".join(f"PCBD_{str(place).upper()}: " for place in fault["loc"][:1]) for fault in error.errors())
    return "; ".join(name + fault["msg"] for name, fault in zip(names, error.errors(), strict=True))
