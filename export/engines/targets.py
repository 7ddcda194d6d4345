"""ONNX graphs to the engine file of a target, in a precision that the target has."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import onnxruntime
import openvino

from export.boards.calibration import Calibration
from export.contract.tensors import DETECTOR, ModelSpec
from export.engines import onnxruntime_engine, openvino_engine
from export.gate.limits import NEED_LABELS
from export.runtime.engine import Arrays, Engine, engine_file, load_engine
from export.runtime.error import EngineError
from export.tensorrt import builder as tensorrt_builder
from export.tensorrt.plan import NO_SWITCHES, PLAN_SUFFIX, PlanOptions, Switches
from export.tensorrt.precision import Method
from export.tensorrt.trtexec_engine import TrtexecEngine

PRECISIONS = {
    "tensorrt": tensorrt_builder.PRECISIONS,
    "openvino": openvino_engine.PRECISIONS,
    "onnxruntime": onnxruntime_engine.PRECISIONS,
}
METHODS = {
    ("openvino", "int8"): openvino_engine.METHODS["int8"],
    ("onnxruntime", "int8"): onnxruntime_engine.METHODS["int8"],
    ("tensorrt", "int8"): ("entropy", "max"),
    ("tensorrt", "fp8"): ("max",),
}
# Of those that need no calibration, what it can tell of nodes whose values fp16 does not hold.
RANGED = (("tensorrt", "fp16"), ("tensorrt", "bf16"), ("onnxruntime", "fp16"))
# The fastest that passes the gate and needs no calibration; int8 is no faster on a CPU with bf16 (docs/export.md).
DEFAULT_PRECISIONS = {"openvino": "bf16", "onnxruntime": "fp32", "tensorrt": "fp16"}
# One token's graph is small and runs for every token: a call of OpenVINO takes 0.45 ms of it, one of ONNX Runtime 0.25.
STEP = "decoder"
TIMED_ROUNDS = 9


def pick(target: str, precision: str | None) -> tuple[str, str]:
    """The target and the precision that are meant.

    Target "auto" is tensorrt where this machine can build plans, else openvino; no precision is the target's default.

    Raises:
        EngineError: the target does not have the precision.
    """
    if target == "auto":
        target = "tensorrt" if tensorrt_builder.is_available() else "openvino"
    if precision is None:
        precision = DEFAULT_PRECISIONS[target]
    if precision not in PRECISIONS[target]:
        having = [name for name, precisions in PRECISIONS.items() if precision in precisions]
        raise EngineError(
            f"{target} has no {precision}, but {', '.join(PRECISIONS[target])}; {precision} is one of "
            f"{', '.join(having)}" + ("" if target == "tensorrt" else ", tensorrt needs a GPU: see --target")
        )
    return target, precision


def precision_of(spec: ModelSpec, precision: str, target: str, graph: str = "model") -> str:
    """The precision of a model's graph when the whole is of `precision`: only the detector is quantised.

    The prompt encoder runs when a catalog changes, and a wrong token of the generator changes all that follow. In bf16
    its decoder took another token at 9 places of 100, in fp32 behind bf16 at 1, and it is a small part of the work: the
    eight bits of bf16 do not tell neighbouring locations apart.
    """
    if precision in NEED_LABELS and spec is not DETECTOR:
        precision = DEFAULT_PRECISIONS[target]
    return "fp32" if graph == STEP and precision == "bf16" else precision


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
    switches: Switches = NO_SWITCHES,
) -> dict[str, Any]:
    """Writes the engine of an ONNX graph NAME.onnx into `folder` and returns what the report should say of it.

    Args:
        graph: in fp32.
        target: one of PRECISIONS; for openvino the generator's decoder is left to ONNX Runtime.
        precision: one of the target's.
        folder: gets NAME.xml, NAME.onnx or NAME.plan.
        calibration: rows by input name; needed where activations are quantised.
        spec: the Triton model that the graph is of.
        image_tokens: of a tile; a TensorRT plan of the generator's decoder is shaped by it.
        method: one of METHODS, where there is a choice.
        keep: names of nodes that stay in higher precision.
        switches: of TensorRT, which other targets do not have.

    Raises:
        EngineError: the machine cannot build it, calibration is missing, or the target's tools fail; with the remedy.
    """
    what = f"{spec.name}: {graph.stem} in {' '.join(filter(None, (precision, method)))} for {target}"
    try:
        if target == "tensorrt":
            chosen = cast(Method, method or "entropy")
            options = PlanOptions(spec.max_batch_size, image_tokens, switches, chosen, tuple(keep))
            report = tensorrt_builder.build(graph, precision, folder, calibration, options)
            return {"kept": list(keep), **report}
        if target == "openvino" and graph.stem != STEP:
            return openvino_engine.build(graph, precision, folder, calibration, method, keep)
        return onnxruntime_engine.build(graph, precision, folder, calibration, method, keep)
    except EngineError as error:
        raise EngineError(f"{what}: {error}") from error
    except Exception as error:  # each library raises its own types
        raise EngineError(
            f"{what} cannot be built: {type(error).__name__}: {error}; build another --precision or --target: "
            f"{target} has {', '.join(PRECISIONS[target])}, and fp32 changes nothing in the graph"
        ) from error


def load_built(folder: Path, graph: str = "model") -> Engine:
    """An engine of this machine for the gate: `load_engine`, or for a plan where TensorRT's API is absent by trtexec.

    Raises:
        EngineError: as `load_engine` does, or there is no trtexec either.
    """
    file = engine_file(folder, graph)
    if file.suffix == PLAN_SUFFIX and not tensorrt_builder.has_api():
        return TrtexecEngine(file)
    return load_engine(folder, graph)


def tool_version(target: str, built: Mapping[str, Any]) -> str:
    """The version of the library that builds and runs a target's engines; `built` is what `build_engine` returned."""
    if target == "tensorrt":  # which may be there as trtexec alone, not to be imported
        return str(built["tensorrt"])
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
