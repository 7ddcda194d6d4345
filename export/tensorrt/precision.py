"""Reduced precision written into an ONNX graph by NVIDIA ModelOpt, as strongly typed TensorRT reads it.

    fp16, bf16   AutoCast: casts around what may run in half precision
    int8, fp8    Q/DQ pairs before every Conv, MatMul and Gemm, ranges from calibration tiles; the rest in fp16

Normalisations, softmax, reductions, the choice of boxes and tokens and residual sums stay in fp32 in all of them. For
nvidia-modelopt 0.47, whose ONNX part works on a CPU without its `onnx` extra, which would hold ONNX Runtime back.
"""

import contextlib
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from export.boards.calibration import Calibration
from export.runtime.error import EngineError
from export.tensorrt.patches import taken_back
from export.tensorrt.tensor_types import tensor_types

Method = Literal["entropy", "max"]

HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
QUANTIZED = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
FLOATS = (TensorProto.FLOAT, *HALVES.values())
QUANTIZED_OPS = ("Conv", "MatMul", "Gemm")
FP32_OPS = (
    *("LayerNormalization", "Softmax", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"),
    *("Equal", "IsNaN", "Not", "Where", "Sigmoid", "TopK"),
    *("Sub", "Exp", "Less", "ArgMax", "Clip", "Log"),  # the decoder writes its softmax and its choice out
)
RANGE_ITEMS = 8  # tiles that AutoCast looks for values too large for fp16 in


def rewrite(
    graph: Path,
    precision: str,
    output: Path,
    calibration: Calibration | None,
    *,
    method: Method = "entropy",
    keep: Sequence[str] = (),
    typed: bool = True,
) -> dict[str, Any]:
    """Writes `graph` in a reduced precision to `output` and returns what was done, for the report.

    Args:
        graph: in fp32.
        precision: fp16, bf16, int8 or fp8.
        output: the same inputs and outputs, of the same types.
        calibration: rows for every input of the graph; may be None for fp16 and bf16.
        method: how the range of a tensor is found, for int8 and fp8.
        keep: names of nodes that stay in fp32, such as a sensitivity sweep finds.
        typed: False leaves what is not quantised in fp32, for TensorRT 8, which chooses itself.

    Raises:
        EngineError: an unknown precision, a `keep` that names no node, calibration rows that are missing.
    """
    _check(graph, precision, calibration, keep)
    from modelopt.onnx.autocast import convert_to_mixed_precision
    from modelopt.onnx.quantization import quantize

    logging.getLogger("modelopt.onnx").setLevel(logging.CRITICAL)
    logging.getLogger("modelopt.onnx.autocast").setLevel(logging.ERROR)
    report: dict[str, Any] = {"precision": precision}
    with tempfile.TemporaryDirectory(prefix="precision-") as name, (Path(name) / "log").open("w") as log:
        work = Path(name) / "graph.onnx"  # ModelOpt leaves files beside its input
        onnx.save(onnx.load(graph), work)
        if precision in QUANTIZED:
            with contextlib.redirect_stdout(log), taken_back():
                quantize(
                    str(work),
                    quantize_mode=precision,
                    calibration_data=dict(calibration or {}),
                    calibration_method=method,
                    calibration_eps=["cpu"],
                    op_types_to_quantize=list(QUANTIZED_OPS),
                    nodes_to_exclude=_patterns(keep),
                    high_precision_dtype="fp32",
                    output_path=str(work.with_name("quantized.onnx")),
                    log_level="CRITICAL",
                )
            work = work.with_name("quantized.onnx")
            onnx.save(_bypass_pairs(onnx.load(work), keep), work)
            report |= {"method": method, "calibration_items": len(next(iter((calibration or {}).values())))}
        if typed or precision in HALVES:
            model = onnx.load(work)
            with contextlib.redirect_stdout(log):
                model = convert_to_mixed_precision(
                    str(work),
                    low_precision_type=precision if precision in HALVES else "fp16",
                    nodes_to_exclude=_patterns([*keep, *residual_sums(model)]),
                    op_types_to_exclude=list(FP32_OPS),
                    data_max=512 if calibration else np.inf,  # without tiles ModelOpt would make up random ones
                    keep_io_types=True,
                    calibration_data=_range_file(calibration, Path(name)) if calibration else None,
                    providers=["cpu"],
                )
        else:
            model = onnx.load(work)
    onnx.checker.check_model(model)
    onnx.save(model, output)
    return report | describe(model, precision)


def describe(model: ModelProto, precision: str) -> dict[str, Any]:
    """What runs in which precision: quantised nodes, those left out, and the types that the others compute in."""
    types = tensor_types(model)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    computing = [node for node in model.graph.node if node.op_type in (*QUANTIZED_OPS, *FP32_OPS, "Add")]
    heavy = [node for node in computing if node.op_type in QUANTIZED_OPS]
    quantized = [node.name for node in heavy if set(node.input[:2]) <= dequantized]
    in_fp32 = [node for node in computing if types.get(node.output[0]) == TensorProto.FLOAT]
    result: dict[str, Any] = {"fp32_nodes": dict(Counter(node.op_type for node in in_fp32))}
    if precision in QUANTIZED:
        result |= {"quantized_nodes": len(quantized)}
        result |= {"not_quantized": [node.name for node in heavy if node.name not in quantized]}
    return result


def residual_sums(model: ModelProto) -> list[str]:
    """Names of the additions of two computed float tensors; a sum with a weight is a bias, and may be rounded."""
    types = tensor_types(model)
    constants = {item.name for item in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type in ("Constant", "DequantizeLinear")}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Add" and not constants & set(node.input) and types.get(node.output[0]) in FLOATS
    ]


def _bypass_pairs(model: ModelProto, keep: Sequence[str]) -> ModelProto:
    """Gives the unrounded tensor back to all but the nodes that were to be quantised.

    ONNX Runtime's quantiser, which ModelOpt calls, rounds a tensor for everyone who reads it: residual sums too.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in (*QUANTIZED_OPS, "DequantizeLinear") and node.name not in keep:
            continue
        for index, name in enumerate(node.input):
            if name in made and made[name].op_type == "DequantizeLinear":
                node.input[index] = made[made[name].input[0]].input[0]
    for op_type in ("DequantizeLinear", "QuantizeLinear"):  # those that nobody reads any more
        read = {name for node in model.graph.node for name in node.input}
        for node in [node for node in model.graph.node if node.op_type == op_type and node.output[0] not in read]:
            model.graph.node.remove(node)
    return model


def _check(graph: Path, precision: str, calibration: Calibration | None, keep: Sequence[str]) -> None:
    if precision not in (*HALVES, *QUANTIZED):
        raise EngineError(f"precision {precision!r}: expected one of {', '.join((*HALVES, *QUANTIZED))}")
    model = onnx.load(graph, load_external_data=False)
    faults = []
    unknown = sorted(set(keep) - {node.name for node in model.graph.node})
    if unknown:
        faults.append(f"nodes to keep in fp32 that the graph does not have: {', '.join(unknown)}")
    if precision in QUANTIZED and not calibration:
        faults.append(f"{precision} needs calibration tiles and none were given; random ones would give wrong ranges")
    if calibration:
        missing = [tensor.name for tensor in model.graph.input if tensor.name not in calibration]
        lengths = {name: len(rows) for name, rows in calibration.items()}
        if missing:
            faults.append(f"calibration rows are missing for the inputs {', '.join(missing)}")
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            faults.append(f"calibration rows per input: {lengths}; expected as many for each, and at least one")
    if faults:
        raise EngineError(f"{graph}: " + "; ".join(faults))


def _patterns(names: Sequence[str]) -> list[str]:
    """ModelOpt takes regular expressions; these match one name each."""
    return [f"^{re.escape(name)}$" for name in names]


def _range_file(calibration: Calibration, folder: Path) -> str:
    path = folder / "ranges.npz"
    np.savez(path, **{name: rows[:RANGE_ITEMS] for name, rows in calibration.items()})
    return str(path)
