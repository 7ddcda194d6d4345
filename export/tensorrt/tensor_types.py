"""The data type of every tensor of an ONNX graph, as far as ONNX can infer it."""

import onnx
from onnx import ModelProto


def tensor_types(model: ModelProto) -> dict[str, int]:
    """`TensorProto` data types by tensor name: inputs, outputs, initializers and everything in between."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.input, *graph.output)}
    return types | {item.name: item.data_type for item in graph.initializer}
