"""ONNX graphs to the engine file of a target, in a precision that the target has."""

import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import openvino

from export import onnxruntime_engine, openvino_engine
from export.calibration import Calibration
from export.contract.tensors import DETECTOR, ModelSpec
from export.limits import NEED_LABELS
from export.runtime.engine import Arrays, Engine, EngineError

PRECISIONS = {
    "tensorrt": ("fp32", "fp16", "bf16", "int8", "fp8"),
    "openvino": openvino_engine.PRECISIONS,
    "onnxruntime": onnxruntime_engine.PRECISIONS,
}
METHODS = {
    ("openvino", "int8"): openvino_engine.METHODS["int8"],
    ("onnxruntime", "int8"): onnxruntime_engine.METHODS["int8"],
    ("tensorrt", "int8"): ("entropy", "max"),
    ("tensorrt", "fp8"): ("max",),
}
BESIDE_QUANTIZED = {"openvino": "fp32", "onnxruntime": "fp32", "tensorrt": "fp16"}
TIMED_ROUNDS = 9


def pick_target(target: str, precision: str) -> str:
    """The target that is meant: "auto" is tensorrt where this machine can build plans, else openvino.

    Raises:
        EngineError: the target does not have the precision.
    """
    if target == "auto":
        target = "tensorrt" if _tensorrt().is_available() else "openvino"
    if precision not in PRECISIONS[target]:
        having = [name for name, precisions in PRECISIONS.items() if precision in precisions]
        raise EngineError(
            f"{target} has no {precision}, but {', '.join(PRECISIONS[target])}; {precision} is one of "
            f"{', '.join(having)}" + ("" if target == "tensorrt" else ", tensorrt needs a GPU: see --target")
        )
    return target


def precision_of(spec: ModelSpec, precision: str, target: str) -> str:
    """The precision of a model when the whole is of `precision`: only the detector is quantised.

    The prompt encoder runs when a catalog changes, and a wrong token of the generator changes all that follow.
    """
    return BESIDE_QUANTIZED[target] if precision in NEED_LABELS and spec is not DETECTOR else precision


def build_engine(
    graph: Path,
    target: str,
    precision: str,
    folder: Path,
    calibration: Calibration | None,
    *,
    spec: ModelSpec = DETECTOR,
    image_tokens: int = 0,
    method: str = "",
    keep: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the engine of an ONNX graph NAME.onnx into `folder` and returns what the report should say of it.

    Args:
        graph: in fp32.
        target: one of PRECISIONS.
        precision: one of the target's.
        folder: gets NAME.xml, NAME.onnx or NAME.plan.
        calibration: rows by input name; needed where activations are quantised.
        spec: the Triton model that the graph is of.
        image_tokens: of a tile; a TensorRT plan of the generator's decoder is shaped by it.
        method: one of METHODS, where there is a choice.
        keep: names of nodes that stay in higher precision.

    Raises:
        EngineError: the machine cannot build it, or calibration is missing; with the remedy.
    """
    if target == "tensorrt":
        plan = importlib.import_module("export.tensorrt.plan")
        chosen = {"method": method} if method else {}
        options = plan.PlanOptions(spec.max_batch_size, image_tokens, keep=tuple(keep), **chosen)
        report: dict[str, Any] = _tensorrt().build(graph, precision, folder, calibration, options)
        return {"kept": list(keep), **report}
    if target == "openvino":
        return openvino_engine.build(graph, precision, folder, calibration, method, keep)
    return onnxruntime_engine.build(graph, precision, folder, calibration, method, keep)


def tool_version(target: str, built: Mapping[str, Any]) -> str:
    """The version of the library that builds and runs a target's engines; `built` is what `build_engine` returned."""
    if target == "tensorrt":  # which may be there as trtexec alone, not to be imported
        return str(built.get("tensorrt", "unknown"))
    return str({"openvino": openvino, "onnxruntime": onnxruntime}[target].__version__)


def median_latency_ms(engines: Sequence[Engine], inputs: Arrays, rounds: int = TIMED_ROUNDS) -> list[float]:
    """The median time of one pass of each engine; the engines take turns, so that a busy moment hits all of them."""
    seconds: list[list[float]] = [[] for _ in engines]
    for engine in engines:
        engine.run(inputs)
    for _ in range(rounds):
        for index, engine in enumerate(engines):
            begin = time.perf_counter()
            engine.run(inputs)
            seconds[index].append(time.perf_counter() - begin)
    return [1000 * median(times) for times in seconds]


def first_rows(calibration: Calibration, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """The first `count` rows as one batch."""
    return {name: np.ascontiguousarray(array[:count]) for name, array in calibration.items()}


def size_bytes(folder: Path) -> int:
    """Of the engine files in a folder, their weights among them."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in {".xml", ".bin", ".onnx", ".plan"})


def _tensorrt() -> Any:  # noqa: ANN401
    return importlib.import_module("export.tensorrt.builder")
