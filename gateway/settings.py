"""What an operator can set, each by the environment variable PCBD_NAME."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Defaults fit the embedded Triton on this machine."""

    model_config = SettingsConfigDict(env_prefix="PCBD_", frozen=True, protected_namespaces=())

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    triton_url: str = "127.0.0.1:8001"  # gRPC
    triton_shared_memory: bool = False  # tiles go through /dev/shm; Triton on the same host, as a user that can read it
    model_repository: Path = Path("model_repository")  # the tokenizer is read from it

    # The defect catalog lives here: sqlite:///FILE (the folder is made) or postgresql://USER:PASSWORD@HOST/NAME.
    database_url: str = Field(default="sqlite:///data/gateway.db", pattern=r"^(sqlite:///.|postgresql(\+psycopg)?://)")

    max_body_bytes: int = Field(default=64 * 2**20, gt=0)
    max_image_pixels: int = Field(default=64_000_000, gt=0)  # of an image held in memory
    max_line_scan_pixels: int = Field(default=300_000_000, gt=0)  # of a TIFF, which is read in bands above the other
    max_prompts: int = Field(default=64, gt=0, le=64)  # the largest prompt bucket of the contract
    max_prompt_characters: int = Field(default=400, gt=0)

    max_batch_images: int = Field(default=32, gt=0)  # of POST /detect/batch; together within max_body_bytes

    max_in_flight: int = Field(default=16, gt=0)  # requests at work; more are refused at once
    deadline_s: float = Field(default=10.0, gt=0)  # from a request's head to its answer; a client may allow less
    body_timeout_s: float = Field(default=10.0, gt=0)  # for a request's body to arrive, within the deadline
    idempotency_window_s: float = Field(default=600.0, ge=0)  # an answer is kept for repeats of its Idempotency-Key
    idempotency_max_bytes: int = Field(default=32 * 2**20, ge=0)  # of kept answers, as JSON
    watch_interval_s: float = Field(default=1.0, gt=0)  # between looks at Triton's state
    canary_version: int | None = None  # served beside the promoted version, for requests that name none
    canary_share: float = Field(default=0.0, ge=0, le=1)  # of them, by board_id, else by request
    circuit_failures: int = Field(default=5, gt=0)  # requests in a row that Triton fails before others are refused
    drain_s: float = Field(default=2.0, ge=0)  # from 'not ready' to closing, at SIGTERM
