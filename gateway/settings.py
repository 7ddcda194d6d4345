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
    model_repository: Path = Path("model_repository")  # the tokenizer is read from it

    max_body_bytes: int = Field(default=64 * 2**20, gt=0)
    max_image_pixels: int = Field(default=64_000_000, gt=0)
    max_prompts: int = Field(default=64, gt=0, le=64)  # the largest prompt bucket of the contract
    max_prompt_characters: int = Field(default=400, gt=0)

    max_in_flight: int = Field(default=16, gt=0)  # requests at work; more are refused at once
    deadline_s: float = Field(default=10.0, gt=0)  # from the last byte of a request to its answer
    body_timeout_s: float = Field(default=10.0, gt=0)  # for a request's body to arrive
    watch_interval_s: float = Field(default=1.0, gt=0)  # between looks at Triton's state
    drain_s: float = Field(default=2.0, ge=0)  # from 'not ready' to closing, at SIGTERM
