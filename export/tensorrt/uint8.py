"""UINT8 inputs made float at the door: TensorRT takes the type at a network's edge and nowhere inside.

`DataType::kUINT8` in NvInferRuntimeBase.h of TensorRT 11.1 (8.5.1 alike): cast such inputs to float or half before
any other layer. The exporter transposes an image first, and compares a mask with a zero of its own type.
"""

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.runtime.error import EngineError

SUFFIX = "/float"


def cast_uint8_inputs(model: ModelProto) -> ModelProto:
    """The same function, with every UINT8 input cast to FLOAT before anything else reads it.

    Raises:
        EngineError: a node needs UINT8 itself; names it.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    inputs = [item.name for item in graph.input if item.type.tensor_type.elem_type == TensorProto.UINT8]
    if not inputs:
        return result
    constants = [item for item in graph.initializer if item.data_type == TensorProto.UINT8]
    renamed = {name: name + SUFFIX for name in inputs} | {item.name: item.name + SUFFIX for item in constants}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for item in constants:
        numbers = numpy_helper.to_array(item).astype(np.float32)
        item.CopyFrom(numpy_helper.from_array(numbers, renamed[item.name]))
    for name in reversed(inputs):
        graph.node.insert(0, helper.make_node("Cast", [name], [renamed[name]], renamed[name], to=TensorProto.FLOAT))
    del graph.value_info[:]  # their types have changed
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(f"the inputs {', '.join(inputs)} cannot be made float for TensorRT: {error}") from error
    return result
