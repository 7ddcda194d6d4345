"""The graphs that TensorRT gets, without TensorRT: looked at node by node and run in ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.contract.tensors import DETECTOR, GENERATOR
from export.graphs.checkpoint import load_checkpoint
from export.graphs.onnx_graphs import write_onnx
from export.runtime.error import EngineError
from export.tensorrt.builder import describe
from export.tensorrt.opset16 import lower_to_opset16
from export.tensorrt.plan import PlanOptions, Switches
from export.tensorrt.precision import FP32_OPS, QUANTIZED_OPS, residual_sums, rewrite
from export.tensorrt.tensor_types import tensor_types
from export.tensorrt.uint8 import cast_uint8_inputs

Arrays = dict[str, NDArray[Any]]
OPTIONS = PlanOptions(max_batch_size=8, method="max")
# Those that docs/operators.md of onnx-tensorrt, release 8.5-GA, says are supported.
OPERATORS_OF_8_5 = set((Path(__file__).parent / "golden" / "tensorrt_8_5_operators.txt").read_text().split())


@pytest.fixture(scope="module")
def graph(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of a small checkpoint."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(DETECTOR, load_checkpoint(tiny_checkpoint), path)
    return path


@pytest.fixture(scope="module")
def tiles() -> Arrays:
    return inputs(6, seed=0)


@pytest.fixture(scope="module")
def quantized(graph: Path, tiles: Arrays) -> Callable[[str], tuple[ModelProto, dict[str, Any]]]:
    """The graph in int8 or fp8, made once, with the first MatMul kept out, and its report."""
    made: dict[str, tuple[ModelProto, dict[str, Any]]] = {}

    def get(precision: str) -> tuple[ModelProto, dict[str, Any]]:
        if precision not in made:
            output = graph.with_name(f"{precision}.onnx")
            report = rewrite(graph, precision, output, tiles, method="max", keep=[first_matmul(graph)])
            made[precision] = onnx.load(output), report
        return made[precision]

    return get


def inputs(items: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(items, 16, 64)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    return {"IMAGE": rng.integers(0, 256, (items, 128, 128, 3), dtype=np.uint8), "PROMPT_EMBEDDINGS": embeddings}


def run(model: ModelProto, arrays: Arrays) -> Arrays:
    """In ONNX Runtime; in OpenVINO where the graph holds bf16, which ONNX Runtime cannot compute on a CPU."""
    if TensorProto.BFLOAT16 in tensor_types(model).values():
        core = openvino.Core()
        read = core.read_model(model.SerializeToString())
        answer = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays)
        return {output.any_name: np.array(array) for output, array in answer.items()}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def error(model: ModelProto, reference: Path) -> float:
    """Of the best score of each prompt in each item, which does not hang on the order of nearly equal boxes."""
    arrays = inputs(2, seed=1)
    scores = [run(each, arrays)["SCORES"].max(axis=1) for each in (onnx.load(reference), model)]
    assert np.isfinite(scores[1]).all()
    return float(np.abs(scores[0] - scores[1]).max())


def first_matmul(path: Path) -> str:
    return next(node.name for node in onnx.load(path).graph.node if node.op_type == "MatMul")


def producers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def io(model: ModelProto) -> list[tuple[str, str]]:
    return [(info.name, str(info.type)) for info in (*model.graph.input, *model.graph.output)]


def test_lower_to_opset16_gives_the_same_numbers_in_operators_that_tensorrt_8_5_has(graph: Path) -> None:
    lowered = lower_to_opset16(onnx.load(graph))
    assert [item.version for item in lowered.opset_import if item.domain == ""] == [16]
    assert {node.op_type for node in lowered.graph.node} <= OPERATORS_OF_8_5
    assert io(lowered) == io(onnx.load(graph))
    assert error(lowered, graph) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(TensorProto.FLOAT, 1e-5), (TensorProto.FLOAT16, 2e-2)])
def test_lower_to_opset16_normalises_large_values_in_fp32(dtype: int, tolerance: float) -> None:
    """Squares of these overflow in fp16."""
    model = layer_norm(dtype, axis=-1)
    x = (np.random.default_rng(0).normal(size=(3, 8)) * 1000).astype(helper.tensor_dtype_to_np_dtype(dtype))
    wide = x.astype(np.float64)
    normed = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    expected = normed * np.linspace(1, 2, 8) + np.linspace(-1, 1, 8)
    assert run(lower_to_opset16(model), {"x": x})["y"] == pytest.approx(expected, abs=tolerance)


def test_lower_to_opset16_refuses_what_it_cannot_write() -> None:
    with pytest.raises(EngineError, match="norm: LayerNormalization with axis 0"):
        lower_to_opset16(layer_norm(TensorProto.FLOAT, axis=0))


def layer_norm(dtype: int, axis: int) -> ModelProto:
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    shape = [8] if axis == -1 else [3, 8]
    constants = [
        numpy_helper.from_array(np.broadcast_to(row, shape).astype(numpy_type), name)
        for name, row in (("scale", np.linspace(1, 2, 8)), ("bias", np.linspace(-1, 1, 8)))
    ]
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], "norm", axis=axis)
    tensors = [helper.make_tensor_value_info(name, dtype, [3, 8]) for name in ("x", "y")]
    graph = helper.make_graph([node], "norm", tensors[:1], tensors[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("precision", "half"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_rewrite_halves_the_matrices_and_leaves_what_is_sensitive(
    precision: str, half: int, graph: Path, tiles: Arrays, tmp_path: Path
) -> None:
    report = rewrite(graph, precision, tmp_path / "half.onnx", tiles)
    model = onnx.load(tmp_path / "half.onnx")
    types = tensor_types(model)
    heavy = [node for node in model.graph.node if node.op_type in QUANTIZED_OPS]
    sensitive = [node for node in model.graph.node if node.op_type in FP32_OPS or node.name in residual_sums(model)]
    assert heavy
    assert all(types[name] == half for node in heavy for name in node.input)
    assert {node.op_type for node in sensitive} >= {"LayerNormalization", "Softmax", "Add", "TopK"}
    assert all(types[name] != half for node in sensitive for name in node.input)
    assert report["fp32_nodes"]["LayerNormalization"] == sum(n.op_type == "LayerNormalization" for n in sensitive)
    assert io(model) == io(onnx.load(graph))
    assert error(model, graph) < (5e-3 if precision == "fp16" else 5e-2)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_rewrite_leaves_the_choice_of_a_token_in_fp32(precision: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    write_onnx(GENERATOR, load_checkpoint(tiny_checkpoint), tmp_path / "decoder.onnx", "decoder")
    rewrite(tmp_path / "decoder.onnx", precision, tmp_path / "half.onnx", None)
    model = onnx.load(tmp_path / "half.onnx")
    types, half = tensor_types(model), {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    choice = [node for node in model.graph.node if node.op_type in {"Sub", "Exp", "Less", "ArgMax", "Clip", "Log"}]
    assert {node.op_type for node in choice} == {"Sub", "Exp", "Less", "ArgMax", "Clip", "Log"}
    assert not [node.name for node in choice if half & {types.get(name) for name in (*node.input, *node.output)}]
    assert any(half & {types.get(name) for name in node.input} for node in model.graph.node if node.op_type == "MatMul")


@pytest.mark.parametrize(("precision", "dtype"), [("int8", TensorProto.INT8), ("fp8", TensorProto.FLOAT8E4M3FN)])
def test_rewrite_puts_a_pair_before_every_matrix_and_nowhere_else(
    precision: str, dtype: int, quantized: Callable[[str], tuple[ModelProto, dict[str, Any]]], graph: Path
) -> None:
    model, report = quantized(precision)
    made, constants = producers(model), {item.name: item for item in model.graph.initializer}
    consumers = [
        node
        for node in model.graph.node
        for name in node.input
        if name in made and made[name].op_type == "DequantizeLinear"
    ]
    assert {node.op_type for node in consumers} <= set(QUANTIZED_OPS)
    left_out = [node.name for node in model.graph.node if node.op_type in QUANTIZED_OPS and node not in consumers]
    assert left_out == report["not_quantized"]
    assert first_matmul(graph) in left_out
    assert report["quantized_nodes"] > len(left_out)
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.output[0] for node in pairs} <= {name for node in model.graph.node for name in node.input}
    for node in pairs:
        scale, zero_point = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        assert np.isfinite(scale.astype(np.float32)).all()
        assert (scale.astype(np.float32) > 0).all()
        assert constants[node.input[2]].data_type == dtype
        assert not zero_point.astype(np.float32).any()  # TensorRT takes symmetric ranges only
    assert io(model) == io(onnx.load(graph))


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_rewrite_keeps_fp32_around_the_pairs(
    precision: str, quantized: Callable[[str], tuple[ModelProto, dict[str, Any]]]
) -> None:
    model, _ = quantized(precision)
    types = tensor_types(model)
    sensitive = [node for node in model.graph.node if node.op_type in FP32_OPS or node.name in residual_sums(model)]
    assert sensitive
    assert all(types[name] != TensorProto.FLOAT16 for node in sensitive for name in node.input)


@pytest.mark.parametrize(("precision", "tolerance"), [("int8", 0.1), ("fp8", 0.1)])
def test_a_quantized_graph_computes_nearly_the_same(
    precision: str, tolerance: float, quantized: Callable[[str], tuple[ModelProto, dict[str, Any]]], graph: Path
) -> None:
    model, _ = quantized(precision)
    assert 0 < error(model, graph) < tolerance


def test_a_wrong_scale_is_seen_in_the_numbers(
    quantized: Callable[[str], tuple[ModelProto, dict[str, Any]]], graph: Path
) -> None:
    broken = ModelProto()
    broken.CopyFrom(quantized("int8")[0])
    scales = {node.input[1] for node in broken.graph.node if node.op_type == "QuantizeLinear"}
    for item in broken.graph.initializer:
        if item.name in scales:
            scale = numpy_helper.to_array(item)
            narrowed = (scale / 8).astype(scale.dtype)
            item.CopyFrom(numpy_helper.from_array(narrowed, item.name))
    assert error(broken, graph) > 2 * error(quantized("int8")[0], graph)


def test_rewrite_names_every_fault_together(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere") as raised:
        rewrite(graph, "int8", tmp_path / "out.onnx", None, keep=["nowhere"])
    assert "calibration tiles" in str(raised.value)
    with pytest.raises(EngineError, match="PROMPT_EMBEDDINGS"):
        rewrite(graph, "int8", tmp_path / "out.onnx", {"IMAGE": inputs(1, seed=0)["IMAGE"]})
    with pytest.raises(EngineError, match="int4"):
        rewrite(graph, "int4", tmp_path / "out.onnx", None)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_describe_casts_uint8_to_float_at_the_door(precision: str, graph: Path, tmp_path: Path) -> None:
    """TensorRT has no layer for UINT8 but the cast, and none from it to bf16."""
    description, _ = describe(graph, precision, tmp_path, None, OPTIONS, 11, tmp_path)
    model = onnx.load(description.graph)
    readers = [node for node in model.graph.node if "IMAGE" in node.input]
    assert [(node.op_type, node.attribute[0].i) for node in readers] == [("Cast", TensorProto.FLOAT)]
    assert io(model) == io(onnx.load(graph))
    assert error(model, graph) < (1e-5 if precision == "fp32" else 5e-2)


def test_cast_uint8_inputs_gives_constants_the_same_type() -> None:
    """As the generator's decoder compares what its grammar allows with a zero."""
    shape = [2, 3]
    allowed = helper.make_tensor_value_info("ALLOWED", TensorProto.UINT8, shape)
    hidden = helper.make_tensor_value_info("HIDDEN", TensorProto.BOOL, shape)
    nodes = [helper.make_node("Equal", ["ALLOWED", "zero"], ["HIDDEN"])]
    zero = numpy_helper.from_array(np.zeros((), np.uint8), "zero")
    model = helper.make_model(
        helper.make_graph(nodes, "mask", [allowed], [hidden], [zero]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    rows = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    cast = cast_uint8_inputs(model)
    assert [node.op_type for node in cast.graph.node if "ALLOWED" in node.input] == ["Cast"]
    assert (run(cast, {"ALLOWED": rows})["HIDDEN"] == (rows == 0)).all()


def test_describe_prepares_int8_for_tensorrt_8_5(graph: Path, tiles: Arrays, tmp_path: Path) -> None:
    """Opset 16, Q/DQ pairs, everything else in fp32: the builder's flags do the rest."""
    description, _ = describe(graph, "int8", tmp_path, tiles, OPTIONS, 8, tmp_path)
    model = onnx.load(description.graph)
    assert [item.version for item in model.opset_import if item.domain == ""] == [16]
    assert {node.op_type for node in model.graph.node} <= OPERATORS_OF_8_5
    assert TensorProto.FLOAT16 not in tensor_types(model).values()
    assert error(model, graph) < 0.1


def test_describe_leaves_fp16_to_the_flags_of_tensorrt_8_5(graph: Path, tmp_path: Path) -> None:
    description, _ = describe(graph, "fp16", tmp_path, None, OPTIONS, 8, tmp_path)
    model = onnx.load(description.graph)
    kept = {node.op_type for node in model.graph.node if node.name in description.fp32_layers}
    assert kept >= {"Softmax", "ReduceMean", "Sqrt", "Add"}
    assert not kept & set(QUANTIZED_OPS)


def test_describe_refuses_what_tensorrt_8_5_lacks(graph: Path, tmp_path: Path) -> None:
    switched = PlanOptions(max_batch_size=8, switches=Switches(version_compatible=True))
    for precision, options in (("bf16", OPTIONS), ("fp8", OPTIONS), ("fp16", switched)):
        with pytest.raises(EngineError, match="TensorRT 10 or newer"):
            describe(graph, precision, tmp_path, None, options, 8, tmp_path)
