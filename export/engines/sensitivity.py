"""Which layers bear int8 badly: one layer at a time is rounded, and the outputs say what that does.

Rounding is simulated in the fp32 graph, weights per output channel and activations per tensor, so that one sweep holds
for every target and takes as many sessions as the graph has layers, not as many quantisations.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from tqdm import tqdm

from export.contract.tensors import TensorSpec
from export.gate.comparison import align, rows
from export.graphs.weighted_nodes import weighted_nodes
from export.runtime.engine import Arrays


def sweep(graph: Path, outputs: tuple[TensorSpec, ...], inputs: Arrays) -> list[tuple[str, float]]:
    """The graph's layers and the mean absolute error of the outputs when that layer alone is int8; the worst first.

    Args:
        graph: in fp32.
        outputs: the graph's.
        inputs: a few calibration rows, one batch.
    """
    model = onnx.load(graph)
    nodes = weighted_nodes(model)
    ranges = _ranges(model, nodes, inputs)
    expected = rows(outputs, _run(model, inputs))
    errors = []
    for node in tqdm(nodes, desc="sensitivity", unit="layer", file=sys.stderr, leave=False, disable=None):
        got = rows(outputs, _run(_rounded(model, node, *ranges[node.input[0]]), inputs))
        errors.append((node.name, float(np.abs(expected - align(expected, got)).mean())))
    return sorted(errors, key=lambda item: -item[1])


def _run(model: ModelProto, inputs: Arrays) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _ranges(model: ModelProto, nodes: list[NodeProto], inputs: Arrays) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each layer's input, 0 always within them."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    known = {value.name for value in model.graph.output} | {value.name for value in model.graph.input}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in known
    )
    values = {**_run(watched, inputs), **inputs}
    return {name: (min(0.0, float(values[name].min())), max(0.0, float(values[name].max()))) for name in names}


def _rounded(model: ModelProto, node: NodeProto, low: float, high: float) -> ModelProto:
    """The graph with one layer's weights and input rounded to int8."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    layer = next(each for each in changed.graph.node if each.name == node.name)
    weight = next(item for item in model.graph.initializer if item.name == node.input[1])
    array = numpy_helper.to_array(weight)
    axis = _output_channel(node, array.ndim)
    others = tuple(index for index in range(array.ndim) if index != axis)
    step = np.maximum(np.abs(array).max(axis=others, keepdims=True) / 127, 1e-12)
    rounded = (np.clip(np.round(array / step), -127, 127) * step).astype(array.dtype)
    scale = max((high - low) / 255, 1e-12)
    names = {kind: f"{node.name}/{kind}" for kind in ("weight", "scale", "zero", "quantized", "input")}
    changed.graph.initializer.extend(
        [
            numpy_helper.from_array(rounded, names["weight"]),
            numpy_helper.from_array(np.array(scale, np.float32), names["scale"]),
            numpy_helper.from_array(np.array(np.clip(round(-low / scale), 0, 255), np.uint8), names["zero"]),
        ]
    )
    pair = [
        helper.make_node(
            "QuantizeLinear", [node.input[0], names["scale"], names["zero"]], [names["quantized"]], names["quantized"]
        ),
        helper.make_node(
            "DequantizeLinear", [names["quantized"], names["scale"], names["zero"]], [names["input"]], names["input"]
        ),
    ]
    layer.input[0], layer.input[1] = names["input"], names["weight"]
    place = list(changed.graph.node).index(layer)
    for node_index, each in enumerate(pair):
        changed.graph.node.insert(place + node_index, each)
    return changed


def _output_channel(node: NodeProto, ndim: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if is_transposed else 1
    return ndim - 1
