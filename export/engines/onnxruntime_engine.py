"""ONNX graph for ONNX Runtime: as it is, in fp16 for a GPU, or quantised to int8 by its own tools.

dynamic          int8 weights of MatMul, activations quantised as they come
static max       Q/DQ pairs around every Conv, MatMul and Gemm with weights, ranges from smallest to largest value
static entropy   the same with the ranges that lose least information (Kullback and Leibler), which cut outliers off
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from export.boards.calibration import Calibration
from export.graphs.weighted_nodes import QUANTIZED_OPS, weighted_nodes
from export.runtime.engine import CUDA, onnxruntime_providers
from export.runtime.error import EngineError
from export.tensorrt.precision import rewrite

PRECISIONS = ("fp32", "fp16", "int8")
STATIC = {"static max": CalibrationMethod.MinMax, "static entropy": CalibrationMethod.Entropy}
METHODS = {"int8": ("dynamic", *STATIC)}


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Calibration rows, one at a time, of the range that is asked for."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._next, self._end = 0, len(self)

    def __len__(self) -> int:
        return len(next(iter(self._calibration.values())))

    def set_range(self, start_index: int, end_index: int) -> None:
        """Limits what comes next to these rows."""
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, Any] | None:
        """The next row, None behind the last of the range."""
        if self._next == self._end:
            return None
        self._next += 1
        return {
            name: np.ascontiguousarray(array[self._next - 1 : self._next]) for name, array in self._calibration.items()
        }


def build(
    graph: Path, precision: str, folder: Path, calibration: Calibration | None, method: str, keep: Sequence[str]
) -> dict[str, Any]:
    """Writes `folder`/NAME.onnx for NAME.onnx and returns what the report should say of it.

    Args are those of `export.engines.openvino_engine.build`.

    Raises:
        EngineError: the calibration is missing, or for fp16 the GPU's provider.
    """
    output = folder / graph.name
    if precision == "fp32":
        output.write_bytes(graph.read_bytes())
        return {"kept": []}
    if precision == "fp16":
        if CUDA not in onnxruntime_providers():
            raise EngineError(
                f"fp16 runs on a GPU, and this ONNX Runtime has no {CUDA}; on a GPU host "
                "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1, elsewhere build fp32"
            )
        return {"kept": list(keep), **rewrite(graph, precision, output, calibration, keep=keep)}
    model = onnx.load(graph)
    chosen = [node.name for node in weighted_nodes(model) if node.name not in keep]
    if method == "dynamic":
        chosen = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name in chosen]
        quantize_dynamic(
            model,
            output,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
            extra_options={"MatMulConstBOnly": True},
        )
    elif calibration is None:
        raise EngineError("int8 needs calibration tiles and none were given; random ones would give wrong ranges")
    else:
        with contextlib.redirect_stdout(io.StringIO()):  # the search for ranges prints its steps
            quantize_static(
                model,
                output,
                _Rows(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED_OPS),
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=chosen,
                calibrate_method=STATIC[method],
                extra_options={"CalibStridedMinMax": 1},  # row by row: the activations of 500 tiles fill the memory
            )
    return {"kept": list(keep), "quantized_nodes": len(chosen)}
