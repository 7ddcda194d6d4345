"""ONNX graph to OpenVINO IR: in fp32, marked to run in bf16, or with int8 weights or int8 layers by NNCF.

weights   int8 weights, computing in fp32
static    int8 weights and activations, ranges from calibration tiles
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from export.boards.calibration import Calibration
from export.runtime.error import EngineError
from export.runtime.inference_precision import BF16, write_inference_precision

PRECISIONS = ("fp32", "bf16", "int8")
METHODS = {"int8": ("weights", "static")}


def build(
    graph: Path, precision: str, folder: Path, calibration: Calibration | None, method: str, keep: Sequence[str]
) -> dict[str, Any]:
    """Writes `folder`/NAME.xml for NAME.onnx and returns what the report should say of it.

    Args:
        graph: in fp32.
        precision: one of PRECISIONS.
        folder: where the engine is written.
        calibration: rows by input name, for the method "static".
        method: of METHODS, for int8.
        keep: names of nodes of the ONNX graph that stay in fp32.

    Raises:
        EngineError: the calibration is missing.
    """
    model = openvino.convert_model(graph)
    if precision == "bf16":
        write_inference_precision(model, BF16)
    if precision == "int8":
        with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
            model = _quantized(model, calibration, method, keep)
    openvino.save_model(model, folder / f"{graph.stem}.xml", compress_to_fp16=False)
    kinds = [node.get_type_name() for node in model.get_ops()]
    return {"kept": list(keep), "quantized_tensors": kinds.count("FakeQuantize")}


def computes_bf16() -> bool:
    """Whether OpenVINO computes in bf16 here; on a processor that has none it takes fp32 and does not say so."""
    empty = openvino.op.Parameter(openvino.Type.f32, openvino.Shape([1]))
    compiled = openvino.compile_model(openvino.Model([empty], [empty]), "CPU", {"INFERENCE_PRECISION_HINT": BF16})
    return bool(compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16)


def _quantized(model: Any, calibration: Calibration | None, method: str, keep: Sequence[str]) -> Any:  # noqa: ANN401
    import nncf

    nncf.set_log_level(logging.ERROR)
    scope = nncf.IgnoredScope(names=_operations(model, keep), validate=False) if keep else None
    if method == "weights":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=scope)
    if calibration is None:
        raise EngineError("int8 needs calibration tiles and none were given; random ones would give wrong ranges")
    count = len(next(iter(calibration.values())))
    rows = nncf.Dataset(
        range(count),
        lambda row: {name: np.ascontiguousarray(array[row : row + 1]) for name, array in calibration.items()},
    )
    return nncf.quantize(model, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=count, ignored_scope=scope)


def _operations(model: Any, nodes: Sequence[str]) -> list[str]:  # noqa: ANN401
    """OpenVINO's names of ONNX nodes; where a layer has a bias, the sum has got the node's name and not the layer."""
    names = []
    for operation in model.get_ops():
        if operation.get_friendly_name() in nodes:
            names.append(operation.get_friendly_name())
            names += [
                value.get_node().get_friendly_name()
                for value in operation.input_values()
                if value.get_node().get_type_name() in {"MatMul", "Convolution"}
            ]
    return names
