"""What the gateway itself adds to a detection: everything but the time in which Triton is awaited.

    python -m tests.benchmarks.gateway_overhead [--requests 400] [--rate 20] [--triton 127.0.0.1:8001]

A 640 x 640 JPEG with two prompts, so many requests a second whatever the answers take. Own time is `request` - `triton`
of Server-Timing: from the request's parsed head to the head of its answer (body, catalog, decoding, tiling, merging and
JSON among it), without the time in which at least one call of Triton was under way (gRPC's own packing counts to it).
`cpu_ms` is processor time of the gateway by request, of all its threads and gRPC's too: it does not depend on who else
uses the machine.

Without --triton a real Triton is started with models that answer at once with fixed boxes: the gateway's time does not
depend on theirs, and the machine is left to it. Ends stdout with one line of JSON; exit code 1 if a request failed.
"""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from export.server import TritonServer
from gateway.up import free_port
from tests.benchmarks.origin import origin

BOARD, REPOSITORY = Path("tests/data/board.png"), Path("model_repository")
PROMPTS = ["寻找短路", "find spurs"]
WARM_UP = 40
PATIENCE_S = 120.0
MODEL = '''"""Answers at once: eight boxes above the threshold in every tile."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(output_tensors=self._outputs(request)) for request in requests]

    def _outputs(self, request):
        ids = pb_utils.get_input_tensor_by_name(request, "INPUT_IDS")
        if ids is not None:
            return [pb_utils.Tensor("PROMPT_EMBEDDINGS", np.ones((ids.shape()[0], 192), np.float32))]
        rows, prompts, _ = pb_utils.get_input_tensor_by_name(request, "PROMPT_EMBEDDINGS").shape()
        corners = np.random.default_rng(0).random((rows, 100, 2), np.float32) * 0.8
        scores = np.full((rows, 100, prompts), 0.01, np.float32)
        scores[:, :8, 0] = 0.6
        boxes = np.concatenate([corners, corners + 0.1], axis=2)
        return [pb_utils.Tensor("BOXES", boxes), pb_utils.Tensor("SCORES", scores)]
'''


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--triton", help="gRPC address of a Triton that serves model_repository/")
    arguments = parser.parse_args()
    made, encoded = origin(), io.BytesIO()
    Image.open(BOARD).convert("RGB").save(encoded, "JPEG", quality=90)
    with _triton(arguments.triton) as (triton, repository), _gateway(triton, repository) as (client, process):

        def ask(_: int) -> tuple[int, dict[str, float]]:
            answer = client.post("/detect", files={"image": encoded.getvalue()}, data={"prompt": PROMPTS})
            stages = re.findall(r"(\w+);dur=([\d.]+)", answer.headers.get("Server-Timing", ""))
            return answer.status_code, {name: float(milliseconds) for name, milliseconds in stages}

        for number in range(WARM_UP):
            ask(number)
        load_before, cpu_before = os.getloadavg()[0], _cpu_s(process.pid)
        started, asked = time.perf_counter(), []
        with ThreadPoolExecutor(64) as pool:
            for number in range(arguments.requests):
                time.sleep(max(0.0, started + number / arguments.rate - time.perf_counter()))
                asked.append(pool.submit(ask, number))
        answers = [future.result() for future in asked]
        cpu_s, load_after = _cpu_s(process.pid) - cpu_before, os.getloadavg()[0]
    timings = [stages for status, stages in answers if status == 200]
    own = [stages["request"] - stages["triton"] for stages in timings]
    names = list(dict.fromkeys(name for stages in timings for name in stages))
    report = {
        **made,
        "requests": len(answers),
        "failed": len(answers) - len(timings),
        "rate": arguments.rate,
        "own_ms": {f"p{q}": round(float(np.percentile(own, q)), 2) for q in (0, 10, 50, 95, 99)},
        "cpu_ms": round(cpu_s / len(answers) * 1e3, 2),
        "stages_p50_ms": {
            name: round(float(np.median([each.get(name, 0.0) for each in timings])), 2) for name in names
        },
        "load_average": [round(load_before, 2), round(load_after, 2)],
    }
    print(json.dumps(report))  # noqa: T201
    return 1 if report["failed"] else 0


@contextmanager
def _triton(url: str | None) -> Iterator[tuple[str, Path]]:
    if url is not None:
        yield url, REPOSITORY
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("detector", "prompt_encoder"):
            own = Path(folder) / name / "1"
            own.mkdir(parents=True)
            shutil.copy(REPOSITORY / name / "1" / "config.pbtxt", own.parent)
            shutil.copy(REPOSITORY / name / "1" / "manifest.json", own)
            (own / "model.py").write_text(MODEL)
        shutil.copy(REPOSITORY / "prompt_encoder" / "1" / "tokenizer.json", Path(folder) / "prompt_encoder" / "1")
        ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
        with TritonServer(Path(folder), **ports) as server:
            yield server.grpc_url, Path(folder)


@contextmanager
def _gateway(triton: str, repository: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        settings = {
            "PCBD_PORT": str(port),
            "PCBD_TRITON_URL": triton,
            "PCBD_MODEL_REPOSITORY": str(repository),
            "PCBD_DATABASE_URL": f"sqlite:///{folder}/gateway.db",
            "PCBD_MAX_IN_FLIGHT": "64",
        }
        with (Path(folder) / "log").open("w") as log:
            command = [sys.executable, "-m", "gateway"]
            process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
        try:
            _wait_ready(f"http://127.0.0.1:{port}/readyz")
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, limits=limits) as client:
                yield client, process
        finally:
            process.terminate()
            process.wait()


def _wait_ready(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system


if __name__ == "__main__":
    sys.exit(main())
