"""What an operator can set, each by the environment variable PCBD_NAME; docs/settings.md is made from it.

A container's secrets are files: /run/secrets/pcbd_name holds what PCBD_NAME would, and the variable wins.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.telemetry.logs import LogFormat, LogLevel

SECRETS = Path("/run/secrets")  # where Docker and Podman mount them


class Settings(BaseSettings):
    """Defaults fit the embedded Triton on this machine."""

    model_config = SettingsConfigDict(
        env_prefix="PCBD_",
        env_ignore_empty=True,
        frozen=True,
        protected_namespaces=(),
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes on that port; the limits below are each one's own."
    )
    triton_url: str = Field(default="127.0.0.1:8001", description="Triton's gRPC address.")
    triton_shared_memory: bool = Field(
        default=False,
        description="Tiles go through /dev/shm; Triton must be on the same host, as a user that can read it.",
    )
    model_repository: Path = Field(
        default=Path("model_repository"), description="Triton's model repository; the tokenizer is read from it."
    )

    database_url: str = Field(
        default="sqlite:///data/gateway.db",
        pattern=r"^(sqlite:///.|postgresql(\+psycopg)?://)",
        description="Where the defect catalog and the inspections live: sqlite:///FILE, whose folder is made, or "
        "postgresql://USER:PASSWORD@HOST/NAME.",
    )

    log_level: LogLevel = Field(default="INFO", description="The least that is logged.")
    log_format: LogFormat | None = Field(
        default=None, description="Lines for people, or JSON; unset: for people where stderr is a terminal."
    )

    record: bool = Field(default=True, description="Keep each answer in the database, for people to review.")
    review_margin: float = Field(
        default=0.05, ge=0, le=1, description="A score this near to its class's threshold is worth a look."
    )
    review_random_share: float = Field(
        default=0.01, ge=0, le=1, description="Of all other answers: worth a look by chance."
    )
    image_store: str = Field(
        default="",
        pattern="^([a-z0-9]+://.+)?$",
        description="Where pictures that are worth a look are kept: file:///FOLDER, s3://BUCKET/PREFIX, gs:// or "
        "az://; empty keeps none.",
    )
    image_store_budget_bytes: int = Field(
        default=10 * 2**30, ge=0, description="Beyond it the oldest unreviewed pictures go."
    )
    record_retention_days: int = Field(
        default=90, gt=0, description="Of what nobody reviewed, and of what was exported."
    )
    reviewed_retention_days: int = Field(default=365, gt=0, description="Of reviews that were never exported.")

    api_keys: Literal["off", "required"] = Field(
        default="off", description="Whether requests need a key; python -m gateway.access makes them."
    )
    metrics_protected: bool = Field(default=False, description="/metrics needs a key of the scope admin.")
    tls_certificate: Path | None = Field(default=None, description="HTTPS: a PEM file, together with its key.")
    tls_key: Path | None = Field(default=None, description="The certificate's key, a PEM file.")
    tls_client_ca: Path | None = Field(
        default=None, description="An authority, PEM: clients need a certificate that it signed."
    )

    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="Of a request.")
    max_image_pixels: int = Field(
        default=40_000_000,
        gt=0,
        description="Of an image held in memory, 3 bytes each, and of all that are decoded or drawn into at one time, "
        "9 bytes each.",
    )
    max_line_scan_pixels: int = Field(
        default=300_000_000, gt=0, description="Of a TIFF that is larger than that and therefore read in bands."
    )
    max_prompts: int = Field(
        default=64, gt=0, le=64, description="Of a request; 64 is the largest prompt bucket of the contract."
    )
    max_prompt_characters: int = Field(default=400, gt=0, description="Of one prompt.")

    max_batch_images: int = Field(
        default=32, gt=0, description="Of POST /detect/batch; together within PCBD_MAX_BODY_BYTES."
    )

    max_in_flight: int = Field(default=16, gt=0, description="Requests at work; more are refused at once.")
    deadline_s: float = Field(
        default=10.0, gt=0, description="From a request's head to its answer; a client may allow less."
    )
    body_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="For a request's body to arrive, within the deadline; down to half of it where hundreds arrive.",
    )
    head_timeout_s: float = Field(default=10.0, gt=0, description="For a request's head to arrive.")
    send_timeout_s: float = Field(
        default=10.0, gt=0, description="An answer of which the client takes nothing for so long is given up."
    )
    max_connections: int = Field(
        default=512, gt=0, description="Of a worker; well below the system's own limit, ulimit -n."
    )
    idempotency_window_s: float = Field(
        default=600.0, ge=0, description="So long an answer is kept for repeats of its Idempotency-Key."
    )
    idempotency_max_bytes: int = Field(default=32 * 2**20, ge=0, description="Of kept answers, as JSON.")
    watch_interval_s: float = Field(
        default=1.0, gt=0, description="Between looks at Triton's state, and at the catalog's."
    )
    canary_version: int | None = Field(
        default=None, description="A version served beside the promoted one, for requests that name none."
    )
    canary_share: float = Field(default=0.0, ge=0, le=1, description="Of these requests, by board_id, else by request.")
    circuit_failures: int = Field(
        default=5, gt=0, description="Requests in a row that Triton fails before others are refused."
    )
    drain_s: float = Field(default=2.0, ge=0, description="From 'not ready' to closing, at SIGTERM.")

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
        if self.canary_share and self.canary_version is None:
            raise ValueError(
                f"PCBD_CANARY_SHARE is {self.canary_share:g} and there is no canary: set PCBD_CANARY_VERSION, or 0"
            )
        return self


def faults_of_settings(error: ValidationError) -> str:
    """Every fault with the variable's name, for whoever starts a command."""
    names = ("".join(f"PCBD_{str(place).upper()}: " for place in fault["loc"][:1]) for fault in error.errors())
    return "; ".join(name + fault["msg"] for name, fault in zip(names, error.errors(), strict=True))
