"""Graphs for TensorRT 8.5, which reads opset 16 and has no LayerNormalization (it came with opset 17).

The other operators go through ONNX's own version converter. TensorRT 8.5.1's ONNX parser supports all of
those that the exporter writes (docs/operators.md of onnx-tensorrt, release 8.5-GA).
"""

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from export.runtime.error import EngineError
from export.tensorrt.tensor_types import tensor_types

OPSET = 16
IR_VERSION = 8  # of opset 16
NORM = "layernorm"  # in the name of every node that a LayerNormalization became


def lower_to_opset16(model: ModelProto) -> ModelProto:
    """The same function in opset 16, LayerNormalization written as mean, variance, scale and shift.

    Raises:
        EngineError: a LayerNormalization that is not over the last axis, or an operator without an older form.
    """
    lowered = ModelProto()
    lowered.CopyFrom(model)
    types = tensor_types(model)
    del lowered.graph.node[:]
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            nodes, constants = _decompose(node, types.get(node.input[0], TensorProto.FLOAT))
            lowered.graph.node.extend(nodes)
            lowered.graph.initializer.extend(constants)
        else:
            lowered.graph.node.append(node)
            _drop_default(lowered.graph.node[-1], "noop_with_empty_axes")
    try:
        lowered = version_converter.convert_version(lowered, OPSET)
    except RuntimeError as error:
        raise EngineError(f"the graph has no form in opset {OPSET}: {error}; use TensorRT 10 or newer") from error
    lowered.ir_version = IR_VERSION
    onnx.checker.check_model(lowered, full_check=True)
    return lowered


def _drop_default(node: NodeProto, name: str) -> None:
    """Removes an attribute that is zero, as it is by default: the converter keeps what opset 16 does not know."""
    kept = [item for item in node.attribute if item.name != name or item.i != 0]
    del node.attribute[:]
    node.attribute.extend(kept)


def _decompose(node: NodeProto, dtype: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """LayerNormalization(x, scale, bias) as primitive nodes; opset-18 forms, which the converter lowers with the rest.

    Computed in fp32 as stash_type 1 demands, whatever the type of x: a variance in fp16 overflows at 256.
    """
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    axis, epsilon, stash = (given.get(*pair) for pair in (("axis", -1), ("epsilon", 1e-5), ("stash_type", 1)))
    if axis != -1 or stash != TensorProto.FLOAT or len([name for name in node.output if name]) != 1:
        raise EngineError(
            f"{node.name}: LayerNormalization with axis {axis}, stash_type {stash} and {len(node.output)} outputs; "
            "only axis -1, fp32 statistics and one output can be written in opset 16"
        )
    base = f"{node.name}/{NORM}"
    axes, tiny = f"{base}/axes", f"{base}/epsilon"
    constants = [
        numpy_helper.from_array(np.array([-1], np.int64), axes),
        numpy_helper.from_array(np.array(epsilon, np.float32), tiny),
    ]
    nodes: list[NodeProto] = []

    def add(op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        name = f"{base}/{len(nodes)}_{op_type}"
        nodes.append(helper.make_node(op_type, list(inputs), [output or name], name, **attributes))
        return output or name

    x, scale, *bias = node.input
    is_float = dtype == TensorProto.FLOAT
    if not is_float:
        x, scale, *bias = (add("Cast", name, to=TensorProto.FLOAT) for name in node.input)
    centred = add("Sub", x, add("ReduceMean", x, axes, keepdims=1))
    variance = add("ReduceMean", add("Mul", centred, centred), axes, keepdims=1)
    normed = add("Div", centred, add("Sqrt", add("Add", variance, tiny)))
    result = add("Mul", normed, scale)
    if bias:
        result = add("Add", result, bias[0])
    if is_float:
        add("Identity", result, output=node.output[0])
    else:
        add("Cast", result, output=node.output[0], to=dtype)
    return nodes, constants
