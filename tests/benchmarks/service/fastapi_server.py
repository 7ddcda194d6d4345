"""transformers' `generate` behind plain FastAPI, for comparison: one request after the other.

python -m tests.benchmarks.service.fastapi_server --port 8090 --way per_prompt|image_once
"""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI

from tests.benchmarks.service.peer import Peer


def create_app(way: str) -> FastAPI:
    """POST /detect, GET /health."""
    app, peer = FastAPI(), Peer()

    @app.post("/detect")
    async def detect(body: dict[str, Any]) -> dict[str, Any]:  # blocks: threads would only take one core in turns
        work = peer.read(body)
        return peer.per_prompt(work) if way == "per_prompt" else peer.image_once([work])[0]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    return app


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--way", choices=("per_prompt", "image_once"), required=True)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.way), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
