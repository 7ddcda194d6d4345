"""One board of 640 x 640 and all twelve classes: our detector's nine tiles against YOLOv8n's one pass, and our four
tiles of the board at 0.7 of its size, as a line asks for with magnification=0.7.

Both stand behind one Triton, on the same engine (OpenVINO, bf16), and are asked in turns by gRPC; what a client does
with the answers, thresholds and NMS, is timed too. YOLO's graph comes from tests/benchmarks/service/yolo_graph.py.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm import tqdm

from export.contract.boxes import Detections, nms
from export.contract.tensors import DETECTOR, PROMPT_ENCODER, Dimensions, ModelSpec, TensorSpec
from export.engines.targets import build_engine
from export.triton.config import render_config
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.benchmarks.service.direct import WHOLE_RUN_S, DirectTriton
from tests.benchmarks.service.process import processor_s
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import answered, percentiles
from tests.benchmarks.service.spread import times
from tests.conftest import REPOSITORY, ROOT, embedded_triton

GRAPH = ROOT / "build" / "yolo" / "model.onnx"
MODEL_FILE = Path(__file__).parent / "yolo_model.py"
YOLO = ModelSpec(
    "yolo",
    inputs=(TensorSpec("IMAGE", "UINT8", (640, 640, 3)),),
    outputs=(TensorSpec("OUTPUT", "FP32", (16, 8400)),),
    max_batch_size=1,
)
SCORE_THRESHOLD, NMS_THRESHOLD, MAX_DETECTIONS = 0.3, 0.3, 200
PRECISION = "bf16"
TURN = 5  # requests
FEWER = 0.7  # magnification: 448 pixels are two tiles each way
OURS, OURS_FEWER, THEIRS = "ours, nine tiles of 256", f"ours, four tiles at {FEWER}", "YOLOv8n at 640"


def write_repository(folder: Path, precision: str, graph: Path) -> None:
    """Our models, and YOLO of that ONNX graph."""
    for spec in (DETECTOR, PROMPT_ENCODER):
        shutil.copytree(REPOSITORY / spec.name, folder / spec.name)
    version = folder / YOLO.name / "1"
    version.mkdir(parents=True)
    build_engine(graph, "openvino", precision, version, None, spec=YOLO)
    shutil.copy(MODEL_FILE, version / "model.py")
    config = render_config(YOLO, Dimensions(tile=640, embedding=0, boxes=0), {}, "openvino")
    (version.parent / "config.pbtxt").write_text(config)


def read_yolo(output: NDArray[np.float32]) -> Detections:
    """The network's raw output (16, 8400) as boxes."""
    centre, size, scores = output[:2].T, output[2:4].T, output[4:].T
    box_ids, class_ids = np.nonzero(scores >= SCORE_THRESHOLD)
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    found = Detections(corners[box_ids], scores[box_ids, class_ids], class_ids)
    return nms(found, NMS_THRESHOLD, MAX_DETECTIONS)


async def compare_with_yolo(
    folder: Path, question: Question, rounds: int, graph: Path = GRAPH, turn: int = TURN
) -> dict[str, Any]:
    """Latencies and processor time, and how many times as long ours take as YOLO's, by round of `turn` requests."""
    write_repository(folder, PRECISION, graph)
    with embedded_triton(folder) as server:
        direct, triton = await DirectTriton.of(server), Triton(server.grpc_url)
        processes = (psutil.Process(server.pid),)
        image = {"IMAGE": question.pixels[None]}

        async def ours() -> None:
            direct.boxes(question, answered(await direct.ask(question)))

        async def ours_fewer() -> None:
            smaller = Question(cv2.resize(question.pixels, None, fx=FEWER, fy=FEWER, interpolation=cv2.INTER_AREA))
            direct.boxes(smaller, answered(await direct.ask(smaller)))

        async def yolo() -> None:
            read_yolo((await triton.infer(YOLO, "1", image, Deadline.within(WHOLE_RUN_S)))["OUTPUT"][0])

        asks = {OURS: ours, OURS_FEWER: ours_fewer, THEIRS: yolo}
        clock: dict[str, list[list[float]]] = {name: [] for name in asks}
        processor: dict[str, list[float]] = {name: [] for name in asks}
        for ask in asks.values():
            await ask()
        for _ in tqdm(range(rounds), desc="YOLO", unit="round", file=sys.stderr, disable=None):
            for name, ask in asks.items():
                before, took_ms = processor_s(processes), []
                for _ in range(turn):
                    began = time.perf_counter()
                    await ask()
                    took_ms.append((time.perf_counter() - began) * 1e3)
                clock[name].append(took_ms)
                processor[name].append((processor_s(processes) - before) / turn * 1e3)
        await asyncio.gather(direct.close(), triton.close())
    medians = {name: [float(np.median(each)) for each in turns] for name, turns in clock.items()}
    return {
        "precision": PRECISION,
        "servers": {
            name: {
                "latency_ms": percentiles([each for own in clock[name] for each in own], 25, 50, 75, 95),
                "processor_ms": round(float(np.median(processor[name])), 2),
            }
            for name in asks
        },
        "over_yolo": {
            name: {
                "latency": times(medians[name], medians[THEIRS]),
                "processor": times(processor[name], processor[THEIRS]),
            }
            for name in (OURS, OURS_FEWER)
        },
    }
