"""200 requests from 8 clients at once against the one-at-a-time answer, with latencies and throughput.

    python -m tests.benchmarks.http_concurrency [--image tests/data/board.png] [--url http://127.0.0.1:8080]

Starts the service itself when no --url is given. Exit code 1 if any answer failed or differed.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from gateway.up import free_port, service
from tests.benchmarks.origin import origin

REQUESTS, CLIENTS, ALONE = 200, 8, 20


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=Path("tests/data/board.png"))
    parser.add_argument("--url", help="of a running gateway")
    arguments = parser.parse_args()
    made, image = origin(), arguments.image.read_bytes()
    running = nullcontext(arguments.url) if arguments.url else service(Path("model_repository"), free_port())
    with running as url, httpx.Client(base_url=url, timeout=120) as client:

        def ask(_: int) -> tuple[float, int, Any]:
            started = time.perf_counter()
            answer = client.post("/detect", files={"image": image}, data={"score_threshold": "0.05"})
            milliseconds = (time.perf_counter() - started) * 1e3
            boxes = [(f["box"], f["score"], f["prompt"]) for f in answer.json().get("detections", [])]
            return milliseconds, answer.status_code, boxes

        alone = [ask(number) for number in range(ALONE)]
        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            together = list(tqdm(pool.map(ask, range(REQUESTS)), total=REQUESTS, file=sys.stderr))
        seconds = time.perf_counter() - started
    report = {
        **made,
        "requests": REQUESTS,
        "clients": CLIENTS,
        "errors": sum(status != 200 for _, status, _ in together),
        "differing": sum(boxes != alone[0][2] for _, _, boxes in alone + together),
        "detections": len(alone[0][2]),
        "alone_ms": {f"p{q}": round(float(np.percentile([ms for ms, _, _ in alone], q)), 1) for q in (50, 99)},
        "together_ms": {f"p{q}": round(float(np.percentile([ms for ms, _, _ in together], q)), 1) for q in (50, 99)},
        "requests_per_second": round(REQUESTS / seconds, 2),
    }
    print(json.dumps(report))  # noqa: T201
    return 1 if report["errors"] or report["differing"] else 0


if __name__ == "__main__":
    sys.exit(main())
