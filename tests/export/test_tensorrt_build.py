"""Profiles and command lines as data; what a machine without GPU and TensorRT is told."""

import importlib.util
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.contract.tensors import DETECTOR, LENGTH_BUCKETS, PROMPT_BUCKETS, PROMPT_ENCODER, STEP_TOKENS
from export.engines.targets import load_built
from export.runtime.engine import load_engine
from export.runtime.error import EngineError
from export.tensorrt.builder import build, is_available
from export.tensorrt.cuda import device
from export.tensorrt.engine import TensorRtEngine
from export.tensorrt.plan import PlanDescription, PlanOptions, Switches
from export.tensorrt.profiles import batch_buckets, graph_profiles, joined, tuned_sizes
from export.tensorrt.trtexec import command, major_version

# What trtexec's help of each version lists and does not call deprecated (samples/common/sampleOptions.cpp).
KNOWN_OPTIONS = json.loads((Path(__file__).parent / "golden" / "trtexec_options.json").read_text())
OPTIONS = PlanOptions(max_batch_size=8)
without_tensorrt = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed; these say what happens without"
)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "model.onnx", {"IMAGE": ["batch", 4, 4, 3], "PROMPTS": ["batch", "prompts", 2]})


def write_graph(path: Path, shapes: dict[str, list[str | int]]) -> Path:
    """Its inputs, each passed through."""
    nodes = [helper.make_node("Relu", [name], [f"{name}_OUT"]) for name in shapes]
    sides = [
        [helper.make_tensor_value_info(f"{name}{end}", TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        for end in ("", "_OUT")
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", *sides), ir_version=10), path)
    return path


def fits(profile: dict[str, tuple[tuple[int, ...], ...]], shapes: dict[str, tuple[int, ...]]) -> bool:
    return all(
        low <= size <= high
        for name, (least, _, greatest) in profile.items()
        for low, size, high in zip(least, shapes[name], greatest, strict=True)
    )


def test_each_batch_that_can_come_fits_exactly_one_profile(graph: Path) -> None:
    profiles = graph_profiles(graph, max_batch_size=8)
    assert len(profiles) == len(batch_buckets(8)) * len(PROMPT_BUCKETS)
    for batch, prompts in itertools.product(range(1, 9), PROMPT_BUCKETS):
        shapes = {"IMAGE": (batch, 4, 4, 3), "PROMPTS": (batch, prompts, 2)}
        assert sum(fits(profile, shapes) for profile in profiles) == 1
    assert all(range_.least <= range_.best <= range_.greatest for profile in profiles for range_ in profile.values())


def test_batch_buckets_end_with_the_largest_batch() -> None:
    for size in (1, 2, 4, 8, 64):
        assert batch_buckets(size)[-1] == size
        assert list(batch_buckets(size)) == sorted(set(batch_buckets(size)))


def test_tuned_sizes_are_those_of_the_plans_profiles_in_its_order(graph: Path) -> None:
    """Triton is told profiles by number and CUDA graphs by shape: both must speak of the same."""
    for spec, name, path in (
        (DETECTOR, "PROMPTS", graph),
        (PROMPT_ENCODER, "IDS", write_graph(graph.with_name("ids.onnx"), {"IDS": ["batch", "length"]})),
    ):
        profiles = graph_profiles(path, spec.max_batch_size)
        best = [profile[name].best[:2] for profile in profiles]
        assert best == [tuple(sizes.values()) for sizes in tuned_sizes(spec)]


def test_graph_profiles_count_the_image_tokens_of_the_decoder(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "decoder.onnx", {"BIAS": ["batch", "encoded"]})
    encoded = {profile["BIAS"].best[1] for profile in graph_profiles(path, 1, image_tokens=257)}
    assert encoded == {257 + length for length in LENGTH_BUCKETS}


def test_graph_profiles_serve_every_size_of_a_step_once(tmp_path: Path) -> None:
    profiles = graph_profiles(write_graph(tmp_path / "decoder.onnx", {"TOKENS": ["batch", "step"]}), 1)
    served = [
        size for profile in profiles for size in range(profile["TOKENS"].least[1], profile["TOKENS"].greatest[1] + 1)
    ]
    assert served == list(range(1, STEP_TOKENS + 1))


def test_graph_profiles_name_an_axis_without_buckets(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="depth"):
        graph_profiles(write_graph(tmp_path / "odd.onnx", {"X": ["batch", "depth"]}), 8)


def described(graph: Path, precision: str, major: int, options: PlanOptions = OPTIONS) -> PlanDescription:
    profiles = graph_profiles(graph, options.max_batch_size)
    return PlanDescription(
        graph=graph,
        plan=graph.with_suffix(".plan"),
        precision=precision,
        profiles=(joined(profiles),) if major == 8 else tuple(profiles),
        tensorrt_major=major,
        options=options,
        fp32_layers=("/norm", "/softmax") if major == 8 and precision != "fp32" else (),
    )


@pytest.mark.parametrize(
    ("version", "precision"),
    [(version, precision) for version in KNOWN_OPTIONS for precision in ("fp32", "fp16", "int8")]
    + [(version, precision) for version in ("10.16.0", "11.1.0") for precision in ("bf16", "fp8")],
)
def test_command_uses_only_options_that_this_trtexec_has(version: str, precision: str, graph: Path) -> None:
    major = int(version.split(".")[0])
    options = PlanOptions(8, switches=Switches(major > 8, major > 8, Path("cache")))
    arguments = command(described(graph, precision, major, options))
    assert {argument.split("=")[0].removeprefix("--") for argument in arguments} <= set(KNOWN_OPTIONS[version])


def test_command_states_precision_by_flags_only_where_graphs_cannot(graph: Path) -> None:
    flags = {"--fp16", "--int8", "--stronglyTyped", "--noTF32", "--precisionConstraints=obey"}
    stated = {
        (major, precision): flags & set(command(described(graph, precision, major)))
        for major in (8, 10, 11)
        for precision in ("fp32", "int8")
    }
    assert stated == {
        (8, "fp32"): {"--noTF32"},
        (8, "int8"): {"--int8", "--fp16", "--precisionConstraints=obey"},
        (10, "fp32"): {"--noTF32", "--stronglyTyped"},
        (10, "int8"): {"--stronglyTyped"},
        (11, "fp32"): {"--noTF32"},
        (11, "int8"): set(),
    }
    assert "--layerPrecisions=/norm:fp32,/softmax:fp32" in command(described(graph, "int8", 8))


def test_command_lists_every_profile_with_its_shapes_behind_it(graph: Path) -> None:
    arguments = command(described(graph, "fp16", 11))
    start = arguments.index("--profile=5")
    assert arguments[start + 1 :] == [
        "--minShapes=IMAGE:5x4x4x3,PROMPTS:5x64x2",
        "--optShapes=IMAGE:8x4x4x3,PROMPTS:8x64x2",
        "--maxShapes=IMAGE:8x4x4x3,PROMPTS:8x64x2",
    ]
    assert sum(argument.startswith("--profile=") for argument in arguments) == 6


def test_command_for_tensorrt_8_has_one_profile_over_all_shapes(graph: Path) -> None:
    shapes = [argument for argument in command(described(graph, "fp16", 8)) if "Shapes=" in argument]
    assert shapes == [
        "--minShapes=IMAGE:1x4x4x3,PROMPTS:1x16x2",
        "--optShapes=IMAGE:8x4x4x3,PROMPTS:8x64x2",
        "--maxShapes=IMAGE:8x4x4x3,PROMPTS:8x64x2",
    ]


def stand_in(folder: Path, version: str, script: str) -> Path:
    """An executable that introduces itself as trtexec does and then runs `script`."""
    path = folder / "trtexec"
    path.write_text(f'#!/bin/sh\necho "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # $*"\n{script}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("printed", "major"), [("8503", 8), ("100100", 10), ("110100", 11)])
def test_major_version_reads_what_trtexec_prints(printed: str, major: int, tmp_path: Path) -> None:
    assert major_version(stand_in(tmp_path, printed, "")) == major


def test_major_version_refuses_another_program(tmp_path: Path) -> None:
    other = tmp_path / "trtexec"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(EngineError, match="hello"):
        major_version(other)


SAID = "echo 'TensorRT version: 11.1.0'\necho '[I] Selected Device: NVIDIA H100'\necho '[I] Compute Capability: 9.0'"
SAVE = 'for a in "$@"; do case $a in --saveEngine=*) echo plan > "${a#--saveEngine=}";; esac; done'


@without_tensorrt
def test_build_through_trtexec_keeps_its_log_and_says_what_it_ran_on(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    stand_in(tmp_path, "110100", f"{SAID}\n{SAVE}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    report = build(graph, "fp32", folder, None, OPTIONS)
    assert report["tool"] == "trtexec"
    assert (report["tensorrt"], report["gpu"], report["compute_capability"]) == ("11.1.0", "NVIDIA H100", "9.0")
    assert (folder / "model.plan").read_text() == "plan\n"
    assert report["switches"] == {}
    assert "--profile=5" in (folder / report["log"]).read_text()


@without_tensorrt
def test_build_hands_the_switches_on_and_records_them(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "110100", SAVE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    switches = Switches(hardware_compatible=True, version_compatible=True, timing_cache=tmp_path / "kernels.cache")
    report = build(graph, "fp32", tmp_path, None, PlanOptions(8, switches=switches))
    assert report["switches"] == {
        "hardware_compatible": True,
        "version_compatible": True,
        "timing_cache": "kernels.cache",
    }
    assert report["tensorrt"] == "11", "what trtexec introduced itself as, where its log says no more"
    arguments = (tmp_path / report["log"]).read_text()
    for flag in ("--hardwareCompatibilityLevel=ampere+", "--versionCompatible", f"--timingCacheFile={tmp_path}/kern"):
        assert flag in arguments


@without_tensorrt
@pytest.mark.parametrize("printed", ["8503", "110100"])
def test_a_plan_of_trtexec_is_run_by_it(
    printed: str, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in that runs the graph in ONNX Runtime and has trtexec's formats."""
    stand_in(tmp_path, printed, f'exec {sys.executable} {Path(__file__).with_name("trtexec_stand_in.py")} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    folder = tmp_path / "1"
    folder.mkdir()
    build(graph, "fp32", folder, None, OPTIONS)
    rng = np.random.default_rng(0)
    inputs = {"PROMPTS": rng.random((3, 64, 2), np.float32), "IMAGE": rng.random((3, 4, 4, 3), np.float32)}
    answers = load_built(folder).run(inputs)
    for name, array in inputs.items():
        np.testing.assert_allclose(answers[f"{name}_OUT"], array, rtol=1e-5)
    too_many = {name: np.repeat(array, 3, axis=0) for name, array in inputs.items()}
    with pytest.raises(EngineError, match="no profile"):
        load_built(folder).run(too_many)


@without_tensorrt
def test_what_trtexec_writes_that_is_no_json_is_not_finite(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = '[\n  { "name" : "IMAGE_OUT"\n  , "dimensions" : "1x4"\n  , "values" : [ nan, -nan, inf, -inf ]\n  }\n]'
    run = f'for a in "$@"; do case $a in --exportOutput=*) printf \'{said}\' > "${{a#--exportOutput=}}";; esac; done'
    stand_in(tmp_path, "110100", f"{SAVE}\n{run}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    folder = tmp_path / "1"
    folder.mkdir()
    build(graph, "fp32", folder, None, OPTIONS)
    inputs = {"IMAGE": np.zeros((1, 4, 4, 3), np.float32), "PROMPTS": np.zeros((1, 16, 2), np.float32)}
    values = load_built(folder).run(inputs)["IMAGE_OUT"]
    assert np.isnan(values[0, :2]).all()
    assert values[0, 2:].tolist() == [np.inf, -np.inf]


@without_tensorrt
def test_build_makes_the_folder_of_the_timing_cache_before_it_begins(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "110100", SAVE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    cache = tmp_path / "of" / "this" / "host" / "kernels.cache"
    build(graph, "fp32", tmp_path, None, PlanOptions(8, switches=Switches(timing_cache=cache)))
    assert cache.parent.is_dir()
    (tmp_path / "model.plan").unlink()
    with pytest.raises(EngineError, match=r"--timing-cache.*another file"):
        build(graph, "fp32", tmp_path, None, PlanOptions(8, switches=Switches(timing_cache=cache.parent)))
    assert not (tmp_path / "model.plan").exists()


@without_tensorrt
def test_build_repeats_the_end_of_a_failed_log(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "110100", 'case "$1" in --help) ;; *) echo "no CUDA-capable device"; exit 1;; esac')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EngineError, match="no CUDA-capable device"):
        build(graph, "fp32", tmp_path, None, OPTIONS)
    assert not (tmp_path / "model.plan").exists()


@without_tensorrt
def test_a_machine_without_tensorrt_is_told_where_to_build(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_available()
    with pytest.raises(EngineError, match="tritonserver"):
        build(graph, "fp16", tmp_path, None, OPTIONS)
    with pytest.raises(EngineError, match="needs TensorRT"):
        TensorRtEngine(tmp_path / "model.plan", threads=1)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.plan").write_bytes(b"plan")
    with pytest.raises(EngineError, match="needs TensorRT") as raised:
        load_engine(tmp_path / "1")
    assert "export it again" not in str(raised.value), "which would not help"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_told_so() -> None:
    with pytest.raises(EngineError, match=r"cuda-bindings|openvino needs no GPU"):
        device()


def test_build_names_the_precisions_there_are(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"int4.*fp8"):
        build(graph, "int4", tmp_path, None, OPTIONS)
