"""What an operator can set, each by the environment variable PCBD_NAME; docs/settings.md is made from it."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Defaults fit the embedded Triton on this machine."""

    model_config = SettingsConfigDict(env_prefix="PCBD_", frozen=True, protected_namespaces=())

    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    triton_url: str = Field(default="127.0.0.1:8001", description="Triton's gRPC address.")
    model_repository: Path = Field(
        default=Path("model_repository"), description="Triton's model repository; the tokenizer is read from it."
    )

    database_url: str = Field(
        default="sqlite:///data/gateway.db",
        pattern=r"^(sqlite:///.|postgresql(\+psycopg)?://)",
        description="Where the defect catalog and the inspections live: sqlite:///FILE, whose folder is made, or "
        "postgresql://USER:PASSWORD@HOST/NAME.",
    )

    record: bool = Field(default=True, description="Keep each answer in the database, for people to review.")
    review_margin: float = Field(
        default=0.05, ge=0, le=1, description="A score this little above its threshold is worth a look."
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

    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="Of a request.")
    max_image_pixels: int = Field(default=64_000_000, gt=0, description="Of an image held in memory.")
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
        default=10.0, gt=0, description="For a request's body to arrive, within the deadline."
    )
    idempotency_window_s: float = Field(
        default=600.0, ge=0, description="So long an answer is kept for repeats of its Idempotency-Key."
    )
    idempotency_max_bytes: int = Field(default=32 * 2**20, ge=0, description="Of kept answers, as JSON.")
    watch_interval_s: float = Field(
        default=1.0, gt=0, description="Between looks at Triton's state, and at the catalog's."
    )
    drain_s: float = Field(default=2.0, ge=0, description="From 'not ready' to closing, at SIGTERM.")
