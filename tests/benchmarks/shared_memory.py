"""What eight tiles cost on their way to Triton: through gRPC or shared memory, over one connection or several.

    python -m tests.benchmarks.shared_memory [--pairs 200]

The real embedded Triton, with a detector that reads nothing and answers zeros, so that only the way is measured; the
two ways take turns. Prints medians, and the median of the differences of neighbours, in milliseconds: `wall` as a
caller waits, `processor` of the gateway's process. Throughput is that of eight callers at once.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import trange

from export.contract.tensors import DETECTOR, Dimensions
from export.triton.config import render_config
from gateway.models.shared_memory import slot_bytes
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.benchmarks.origin import origin
from tests.conftest import embedded_triton

DIMENSIONS = Dimensions(tile=256, embedding=192, boxes=100)
CALLERS = 8
CONNECTIONS = (1, 2, 4)
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            size = pb_utils.get_input_tensor_by_name(request, "IMAGE").shape()[0]
            boxes = pb_utils.Tensor("BOXES", np.zeros((size, 100, 4), np.float32))
            scores = pb_utils.Tensor("SCORES", np.zeros((size, 100, 16), np.float32))
            answers.append(pb_utils.InferenceResponse([boxes, scores]))
        return answers
"""
rng = np.random.default_rng(0)
INPUTS = {
    "IMAGE": rng.integers(0, 256, (8, 256, 256, 3), dtype=np.uint8),
    "PROMPT_EMBEDDINGS": rng.normal(size=(8, 16, 192)).astype(np.float32),
}


async def ask(triton: Triton) -> None:
    """One inference."""
    await triton.infer(DETECTOR, "1", INPUTS, Deadline.within(60))


async def timed(triton: Triton) -> tuple[float, float]:
    """Wall and processor time of one inference, milliseconds."""
    wall, processor = time.perf_counter(), time.process_time()
    await ask(triton)
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3


async def throughput(connections: list[Triton], calls: int) -> float:
    """Inferences per second of CALLERS at once, who take connections in turn."""

    async def caller(number: int) -> None:
        for _ in range(calls // CALLERS):
            await ask(connections[number % len(connections)])

    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return calls / (time.perf_counter() - started)


async def measure(url: str, pairs: int) -> dict[str, object]:
    """All of it."""
    plain, shared = Triton(url), Triton(url, may_share_memory=True)
    await shared.share_memory(slot_bytes(DIMENSIONS))
    several = [plain, *(Triton(url) for _ in range(CONNECTIONS[-1] - 1))]
    for triton in (shared, *several):
        await ask(triton)
    rows = []
    for number in trange(pairs, file=sys.stderr):
        order = (plain, shared) if number % 2 else (shared, plain)
        times = {triton: await timed(triton) for triton in order}
        rows.append((*times[plain], *times[shared]))
    rates: dict[int, list[float]] = {count: [] for count in CONNECTIONS}
    for _ in range(5):
        for count in CONNECTIONS:
            rates[count].append(await throughput(several[:count], 10 * CALLERS))
    for triton in (shared, *several):
        await triton.close()
    columns = np.array(rows)
    median = [round(float(value), 2) for value in np.median(columns, axis=0)]
    saved = [round(float(value), 2) for value in np.median(columns[:, :2] - columns[:, 2:], axis=0)]
    return {
        "bytes": sum(array.nbytes for array in INPUTS.values()),
        "grpc_ms": {"wall": median[0], "processor": median[1]},
        "shared_memory_ms": {"wall": median[2], "processor": median[3]},
        "saved_ms": {"wall": saved[0], "processor": saved[1]},
        "inferences_per_second_by_connections": {
            count: round(float(np.median(found)), 1) for count, found in rates.items()
        },
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "models" / DETECTOR.name
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(render_config(DETECTOR, DIMENSIONS, {}, "openvino"))
        (model / "1" / "model.py").write_text(MODEL)
        with embedded_triton(model.parent) as server:
            report = {**origin(), **asyncio.run(measure(server.grpc_url, arguments.pairs))}
    print(json.dumps(report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
