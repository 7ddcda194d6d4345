"""ONNX graph for ONNX Runtime on a CPU: as it is, or quantised to int8 by its own tools.

dynamic   int8 weights of MatMul, activations quantised as they come
static    Q/DQ pairs around every Conv, MatMul and Gemm with weights, ranges (smallest to largest) from calibration
"""

from collections.abc import Iterator, Sequence
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

from export.calibration import Calibration
from export.runtime.engine import EngineError
from export.weighted_nodes import QUANTIZED_OPS, weighted_nodes

PRECISIONS = ("fp32", "int8")
METHODS = {"int8": ("dynamic", "static")}


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Calibration rows, one at a time."""

    def __init__(self, calibration: Calibration) -> None:
        count = len(next(iter(calibration.values())))
        self._rows: Iterator[dict[str, Any]] = (
            {name: np.ascontiguousarray(array[row : row + 1]) for name, array in calibration.items()}
            for row in range(count)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next row, None behind the last."""
        return next(self._rows, None)


def build(
    graph: Path, precision: str, folder: Path, calibration: Calibration | None, method: str, keep: Sequence[str]
) -> dict[str, Any]:
    """Writes `folder`/NAME.onnx for NAME.onnx and returns what the report should say of it.

    Args and errors are those of `export.openvino_engine.build`.
    """
    output = folder / graph.name
    if precision == "fp32":
        output.write_bytes(graph.read_bytes())
        return {"kept": []}
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
        quantize_static(
            model,
            output,
            _Rows(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMaxIntermediateOutputs": 8},  # activations of 500 tiles at once would fill the memory
        )
    return {"kept": list(keep), "quantized_nodes": len(chosen)}
