"""The nodes of an ONNX graph that quantisation is worth its error for: those that multiply with weights."""

from onnx import ModelProto, NodeProto

QUANTIZED_OPS = ("Conv", "MatMul", "Gemm")


def weighted_nodes(model: ModelProto) -> list[NodeProto]:
    """Convolutions and matrix products whose second input is a weight, in the order of the graph."""
    weights = {item.name for item in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in QUANTIZED_OPS and node.input[1] in weights]
