"""The same PyTorch model behind LitServe, for comparison: requests that come together are one batch.

    PYTHONPATH=. build/litserve/bin/python -m tests.benchmarks.service.litserve_server --port 8091

LitServe is no dependency; it lives in an environment of its own, which sees the packages of the other one and is made
by MAKE_LITSERVE of servers.py.
"""

import argparse
from typing import Any

import litserve

from tests.benchmarks.service.peer import Peer, Work

MAX_BATCH, BATCH_TIMEOUT_S = 8, 0.01  # requests, and how long one waits for others


class Detect(litserve.LitAPI):
    """POST /detect; a worker process with the model behind it."""

    def setup(self, device: str) -> None:
        self.peer = Peer()

    def decode_request(self, request: dict[str, Any]) -> Work:
        return self.peer.read(request)

    def batch(self, inputs: list[Work]) -> list[Work]:
        return inputs

    def predict(self, works: list[Work]) -> list[dict[str, Any]]:
        return self.peer.image_once(works)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    api = Detect(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/detect")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
