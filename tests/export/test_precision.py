from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from export.boards.average_precision import average_precision
from export.boards.calibration import CalibrationError, detector_rows
from export.boards.labelled import Board, Boards
from export.build import build
from export.contract.boxes import Detections
from export.contract.tensors import DETECTOR, GENERATOR, MODELS, PROMPT_ENCODER, graphs
from export.engines.candidates import quantised_detectors
from export.engines.openvino_engine import computes_bf16
from export.engines.sensitivity import sweep
from export.engines.targets import METHODS, PRECISIONS, build_engine, first_rows, pick, precision_of, size_bytes
from export.gate.limits import read_limits
from export.gate.verify import GateError, verify
from export.graphs.checkpoint import load_checkpoint
from export.graphs.onnx_graphs import write_onnx
from export.graphs.weighted_nodes import weighted_nodes
from export.runtime.engine import CPU, CUDA, Arrays, Engine, load_engine, onnxruntime_providers
from export.runtime.error import EngineError
from export.runtime.inference_precision import read_inference_precision
from export.tensorrt.profiles import tuned_sizes
from tests.conftest import BOARD

TILE = 128


@pytest.fixture(scope="module")
def graph(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of the small checkpoint in fp32."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(DETECTOR, load_checkpoint(tiny_checkpoint), path)
    return path


@pytest.fixture(scope="module")
def rows() -> dict[str, NDArray[Any]]:
    """Six tiles with traces of several widths, and sixteen prompts."""
    tiles = np.full((6, TILE, TILE, 3), 20, np.uint8)
    for index, tile in enumerate(tiles):
        tile[:, :: 12 + 3 * index] = 230
        tile[40 + index : 60, 10:90] = 180
    prompts = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    return detector_rows(tiles, prompts / np.linalg.norm(prompts, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def expected(graph: Path, rows: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The best score of every tile in fp32."""
    return load_engine(graph.parent).run(first_rows(rows, 6))["SCORES"].max(axis=(1, 2))


def rounded_weights(path: Path) -> int:
    return sum(item.data_type == onnx.TensorProto.INT8 for item in onnx.load(path).graph.initializer)


def test_bf16_version_says_itself_how_it_runs(
    graph: Path, rows: dict[str, NDArray[Any]], expected: NDArray[np.float32], tmp_path: Path
) -> None:
    precisions, answers = [], []
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        folder.mkdir()
        build_engine(graph, "openvino", precision, folder, None)
        precisions.append(read_inference_precision(openvino.Core().read_model(folder / "model.xml")))
        best = load_engine(folder).run(first_rows(rows, 6))["SCORES"].max(axis=(1, 2))
        np.testing.assert_allclose(best, expected, atol=0.05 if precision == "bf16" else 1e-4)
        answers.append(best)
    assert precisions == ["f32", "bf16"]
    assert np.array_equal(*answers) != computes_bf16()


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (target, method)
        for (target, precision), methods in METHODS.items()
        if target != "tensorrt"
        for method in methods
    ],
)
def test_int8_engine_is_smaller_and_nearly_the_same(
    target: str,
    method: str,
    graph: Path,
    rows: dict[str, NDArray[Any]],
    expected: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    build_engine(graph, target, "int8", tmp_path, rows, method=method)
    best = load_engine(tmp_path).run(first_rows(rows, 6))["SCORES"].max(axis=(1, 2))
    assert 0 < np.abs(best - expected).max() < 0.1
    # A graph this small is in good part not weights; "dynamic" leaves the convolutions.
    assert size_bytes(tmp_path) < (0.8 if method == "dynamic" else 0.7) * graph.stat().st_size


def activation_scales(graph: Path, rows: dict[str, NDArray[Any]], folder: Path, method: str) -> NDArray[np.float32]:
    """Of every rounded activation, in the order of the graph."""
    folder.mkdir()
    build_engine(graph, "onnxruntime", "int8", folder, rows, method=method)
    model = onnx.load(folder / "model.onnx")
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return np.array([scale for scale in scales if scale.ndim == 0])


def test_static_ranges_come_from_all_calibration_rows(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    tiles = np.concatenate([np.zeros_like(rows["IMAGE"][:3]), rows["IMAGE"], np.zeros_like(rows["IMAGE"])])
    more = detector_rows(tiles, rows["PROMPT_EMBEDDINGS"][0])
    plain = detector_rows(np.zeros_like(tiles), rows["PROMPT_EMBEDDINGS"][0])
    wide, narrow = (
        activation_scales(graph, calibration, tmp_path / name, "static max")
        for name, calibration in (("more", more), ("plain", plain))
    )
    assert (wide >= narrow * 0.999).all()
    assert (wide > narrow * 1.5).any()


def test_entropy_cuts_outliers_off_that_max_keeps(graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    entropy, largest = (
        activation_scales(graph, rows, tmp_path / method, method) for method in ("static entropy", "static max")
    )
    assert entropy.shape == largest.shape
    assert (entropy < largest * 0.999).any()


@pytest.mark.parametrize(("target", "method"), [("openvino", "static"), ("onnxruntime", "static max")])
def test_int8_without_calibration_is_refused(target: str, method: str, graph: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="calibration"):
        build_engine(graph, target, "int8", tmp_path, None, method=method)


@pytest.mark.parametrize(("target", "method"), [("openvino", "static"), ("onnxruntime", "static max")])
def test_what_a_quantiser_raises_names_the_model_and_the_remedy(
    target: str, method: str, graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    wrong = rows | {"IMAGE": rows["IMAGE"][..., :1]}  # one channel
    with pytest.raises(EngineError, match=rf"(?s)detector: model in int8 {method} for {target}.*--precision"):
        build_engine(graph, target, "int8", tmp_path, wrong, method=method)


def test_a_graph_that_openvino_cannot_read_is_an_engine_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"detector: model in bf16 for openvino"):
        build_engine(tmp_path / "model.onnx", "openvino", "bf16", tmp_path, None)


def test_int8_keeps_the_layers_that_it_is_told_to(graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    nodes = [node.name for node in weighted_nodes(onnx.load(graph))]
    counts = []
    for kept in (0, 3):
        folder = tmp_path / str(kept)
        folder.mkdir()
        report = build_engine(graph, "onnxruntime", "int8", folder, rows, method="static max", keep=nodes[:kept])
        assert report["kept"] == nodes[:kept]
        counts.append(rounded_weights(folder / "model.onnx"))
    assert 0 < counts[1] < counts[0]


def test_openvino_int8_keeps_the_layers_that_it_is_told_to(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    nodes = [node.name for node in weighted_nodes(onnx.load(graph))]
    counts = []
    for kept in (0, len(nodes)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        counts.append(
            build_engine(graph, "openvino", "int8", folder, rows, method="static", keep=nodes[:kept])[
                "quantized_tensors"
            ]
        )
    assert counts[1] < counts[0] / 3  # attention multiplies activations with each other, which is no layer to keep


def test_sweep_tells_layers_apart_that_rounding_hurts_and_that_it_does_not(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    model = onnx.load(graph)
    nodes = weighted_nodes(model)
    idle = nodes[len(nodes) // 2]
    weight = next(item for item in model.graph.initializer if item.name == idle.input[1])
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    before = dict(sweep(graph, DETECTOR.outputs, first_rows(rows, 2)))
    after = sweep(tmp_path / "model.onnx", DETECTOR.outputs, first_rows(rows, 2))
    assert {name for name, _ in after} == {node.name for node in nodes}
    assert [error for _, error in after] == sorted((error for _, error in after), reverse=True)
    assert before[idle.name] > 1e-6  # what rounds a layer changes the outputs
    assert dict(after)[idle.name] < 1e-6  # zeros are what they are in int8 too


def test_candidates_are_every_method_and_the_fastest_that_passes_is_first(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    def judge(engine: Any) -> dict[str, Any]:  # noqa: ANN401
        return {"faults": [], "map50": {"judged": False}}

    found = quantised_detectors(graph, "onnxruntime", "int8", tmp_path, rows, judge, lambda text: None)
    assert {candidate.method for candidate in found} == set(METHODS["onnxruntime", "int8"])
    assert [candidate.latency_ms for candidate in found] == sorted(candidate.latency_ms for candidate in found)


def test_a_candidate_that_fails_gets_more_layers_in_higher_precision(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    judged: list[int] = []

    def judge(engine: Any) -> dict[str, Any]:  # noqa: ANN401
        judged.append(1)
        return {"faults": [] if len(judged) == 3 else ["too far"], "map50": {"judged": False}}

    found = quantised_detectors(graph, "onnxruntime", "int8", tmp_path, rows, judge, lambda text: None)
    kept = {candidate.method: candidate.built["kept"] for candidate in found if candidate.passed}
    worst = [name for name, _ in sweep(graph, DETECTOR.outputs, first_rows(rows, 4))]
    assert kept == {"dynamic": worst[: round(0.25 * len(worst))]}


def scale_a_weight(model: onnx.ModelProto) -> None:
    node = weighted_nodes(model)[1]  # a LayerNormalization undoes it behind the first
    weight = next(item for item in model.graph.initializer if item.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))


def put_a_nan(model: onnx.ModelProto) -> None:
    node = weighted_nodes(model)[-1]
    weight = next(item for item in model.graph.initializer if item.name == node.input[1])
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def swap_outputs(model: onnx.ModelProto) -> None:
    names = {"BOXES": "SCORES", "SCORES": "BOXES"}
    for node in model.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]


@pytest.mark.parametrize("change", [None, scale_a_weight, put_a_nan, swap_outputs])
def test_the_gate_catches_a_broken_graph(
    change: Any,  # noqa: ANN401
    graph: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    model = onnx.load(graph)
    if change:
        change(model)
    onnx.save(model, tmp_path / "model.onnx")
    picture = np.array(np.random.default_rng(0).integers(0, 256, (TILE, TILE, 3), dtype=np.uint8))
    report = verify(
        load_checkpoint(tiny_checkpoint),
        {DETECTOR.name: load_engine(tmp_path)},
        {"one": picture},
        read_limits()["fp32"],
    )
    assert bool(report["faults"]) == bool(change)
    assert report["map50"]["judged"] is False


class Wrong:
    """An engine that is wrong for inputs of some shapes, as a plan may be in one of its profiles."""

    def __init__(self, engine: Engine, is_wrong: Callable[[Arrays], bool]) -> None:
        self.engine, self.is_wrong = engine, is_wrong

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        factor = 1.5 if self.is_wrong(inputs) else 1
        return {name: array * np.float32(factor) for name, array in self.engine.run(inputs).items()}


@pytest.mark.parametrize("size", tuned_sizes(DETECTOR), ids=lambda size: "-".join(map(str, size.values())))
def test_the_gate_runs_the_detector_in_every_size_that_it_is_tuned_for(
    size: dict[str, int], graph: Path, tiny_checkpoint: Path
) -> None:
    def is_size(inputs: Arrays) -> bool:
        batch, prompts, _ = inputs["PROMPT_EMBEDDINGS"].shape
        return {"batch": batch, "prompts": prompts} == size

    picture = np.array(np.random.default_rng(0).integers(0, 256, (2 * TILE, TILE, 3), dtype=np.uint8))
    checkpoint, limits = load_checkpoint(tiny_checkpoint), read_limits()["fp32"]
    tuned = {DETECTOR.name: tuned_sizes(DETECTOR)}
    faults = [
        verify(checkpoint, {DETECTOR.name: engine}, {"one": picture}, limits, tuned=tuned)["faults"]
        for engine in (load_engine(graph.parent), Wrong(load_engine(graph.parent), is_size))
    ]
    assert not faults[0]
    assert any(f"batch {size['batch']}, prompts {size['prompts']}" in fault for fault in faults[1])


def test_the_gate_runs_the_prompt_encoder_in_every_size_that_it_is_tuned_for(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    write_onnx(PROMPT_ENCODER, checkpoint, tmp_path / "model.onnx")
    seen: set[tuple[int, ...]] = set()

    def see(inputs: Arrays) -> bool:
        seen.add(inputs["INPUT_IDS"].shape)
        return False

    engine, sizes = Wrong(load_engine(tmp_path), see), tuned_sizes(PROMPT_ENCODER)
    report = verify(
        checkpoint, {PROMPT_ENCODER.name: engine}, {}, read_limits()["fp32"], tuned={PROMPT_ENCODER.name: sizes}
    )
    assert not report["faults"]
    assert len(report["models"][PROMPT_ENCODER.name]["tuned"]) == len(sizes) == 8
    assert seen >= {(size["batch"], size["length"]) for size in sizes}


def test_average_precision_falls_with_every_defect_that_is_missed() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    truth = Boards(("open", "short"), (Board(Path("a"), "", boxes, np.array([0, 0])),))
    everything = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 0]))
    assert average_precision(truth, [everything]) == pytest.approx(1)
    assert average_precision(truth, [everything.take(np.array([0]))]) == pytest.approx(51 / 101)
    assert average_precision(truth, [Detections(boxes, everything.scores, np.array([1, 1]))]) == 0


def test_int8_without_labelled_pictures_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="--labelled"):
        build(
            load_checkpoint(tiny_checkpoint), "int8", "openvino", tmp_path / "models", BOARD.parent, tmp_path / "r.json"
        )
    assert not (tmp_path / "models").exists()


def build_with(calibration: Path, target: str, precision: str, checkpoint: Path, folder: Path) -> None:
    """A build of the shipped pictures that is told where to calibrate."""
    out, report = folder / "models", folder / "r.json"
    build(load_checkpoint(checkpoint), precision, target, out, BOARD.parent, report, calibration=calibration)


@pytest.mark.parametrize(("target", "precision"), [("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")])
def test_calibration_that_nothing_would_use_is_refused(
    target: str, precision: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="--calibration"):
        build_with(BOARD.parent, target, precision, tiny_checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(("target", "precision"), [("tensorrt", "fp16"), ("tensorrt", "bf16"), ("onnxruntime", "fp16")])
def test_calibration_of_halves_is_used(target: str, precision: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="8 tiles"):
        build_with(tmp_path / "empty", target, precision, tiny_checkpoint, tmp_path)


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="says what happens without onnxruntime-gpu")
def test_fp16_of_onnxruntime_needs_the_provider_of_a_gpu(graph: Path, tmp_path: Path) -> None:
    assert onnxruntime_providers() == {CPU: {}}
    with pytest.raises(EngineError, match="onnxruntime-gpu"):
        build_engine(graph, "onnxruntime", "fp16", tmp_path, None)
    assert not any(tmp_path.iterdir())


def test_onnxruntime_is_asked_for_the_gpu_first_where_it_is_built_for_one(
    graph: Path, rows: dict[str, NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And fp16 is built there; here the graph runs on the CPU."""
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", CUDA, CPU])
        assert list(onnxruntime_providers()) == [CUDA, CPU]
        build_engine(graph, "onnxruntime", "fp16", tmp_path, None)
    types = {item.data_type for item in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
    exact, half = (load_engine(folder).run(first_rows(rows, 2)) for folder in (graph.parent, tmp_path))
    assert half["SCORES"].dtype == np.float32
    np.testing.assert_allclose(half["SCORES"].max((1, 2)), exact["SCORES"].max((1, 2)), atol=5e-3)


def test_only_the_detector_is_quantised_and_no_decoder_is_in_bf16() -> None:
    assert [precision_of(spec, "int8", "onnxruntime") for spec in MODELS] == ["int8", "fp32", "fp32"]
    assert [precision_of(GENERATOR, "bf16", "openvino", graph) for graph in graphs(GENERATOR)] == [
        "bf16",
        "bf16",
        "fp32",
    ]
    assert precision_of(GENERATOR, "fp16", "tensorrt", "decoder") == "fp16"


def test_target_is_named_that_has_the_precision() -> None:
    chosen = [(target, precision) for target in PRECISIONS for precision in PRECISIONS[target]]
    assert [pick(*pair) for pair in chosen] == chosen
    assert pick("openvino", None) == ("openvino", "bf16")
    with pytest.raises(EngineError, match=r"onnxruntime has no bf16.*tensorrt, openvino"):
        pick("onnxruntime", "bf16")
