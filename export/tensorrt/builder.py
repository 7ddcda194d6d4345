"""ONNX graph to TensorRT plan, through TensorRT's Python API or, where that is absent, through trtexec.

Precision stands in the graph (strongly typed networks) on TensorRT 10 and 11, whose fp16 and int8 flags are
deprecated and gone; TensorRT 8.5 gets an opset-16 graph and flags. TensorRT is imported only when a plan is built.
Written against python/src/infer/pyCore.cpp of TensorRT 8.5.1, 10.16 and 11.1.
"""

import contextlib
import importlib
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import onnx

from export.boards.calibration import Calibration
from export.runtime.error import EngineError
from export.tensorrt.cuda import device
from export.tensorrt.opset16 import NORM, lower_to_opset16
from export.tensorrt.plan import PLAN_SUFFIX, PlanDescription, PlanOptions
from export.tensorrt.precision import residual_sums, rewrite
from export.tensorrt.profiles import graph_profiles, joined
from export.tensorrt.trtexec import build_with_trtexec, find_trtexec, major_version
from export.tensorrt.trtexec_engine import write_description
from export.tensorrt.uint8 import cast_uint8_inputs

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
PRECISIONS_OF_8 = ("fp32", "fp16", "int8")
CONTAINER = "nvcr.io/nvidia/tritonserver:26.11-py3"


def is_available() -> bool:
    """Whether this machine can build: a GPU, and TensorRT as a Python package or as trtexec."""
    with contextlib.suppress(EngineError):
        device()
        return has_api() or find_trtexec() is not None
    return False


def build(
    graph: Path, precision: str, folder: Path, calibration: Calibration | None, options: PlanOptions
) -> dict[str, Any]:
    """Builds `folder`/NAME.plan from NAME.onnx, its log beside it, and returns what the manifest should say.

    Args:
        graph: in fp32, its varying axes named as in the contract.
        precision: one of PRECISIONS.
        folder: where the plan and the log are written.
        calibration: rows by input name; needed for int8 and fp8, useful for fp16 and bf16.
        options: batch size and switches.

    Raises:
        EngineError: no GPU, no TensorRT, a precision that this TensorRT lacks, calibration that is missing, a graph
            that TensorRT refuses, a timing cache that cannot be written; each with its remedy.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    timing_cache = options.switches.timing_cache
    if timing_cache:
        _check_writable(timing_cache)
    trtexec = None if has_api() else find_trtexec()
    if trtexec is None and not has_api():
        raise EngineError(
            "TensorRT is not installed: neither its Python package nor trtexec is there. Build inside of "
            f"{CONTAINER}, the container that serves, or install the extras: pip install '.[export,gpu,tensorrt]'"
        )
    machine = {} if trtexec else device()
    major = major_version(trtexec) if trtexec else int(_api().__version__.split(".")[0])
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as work:
        description, report = describe(graph, precision, folder, calibration, options, major, Path(work))
        if trtexec:
            built = build_with_trtexec(trtexec, description)
            write_description(description)
        else:
            built = _build_with_api(_api(), description)
    return {
        **report,
        "tensorrt": str(major),  # all of it, where the tool says it
        **machine,
        **built,
        "switches": options.switches.used,
        "profiles": len(description.profiles),
        "log": description.log.name,
    }


def describe(
    graph: Path,
    precision: str,
    folder: Path,
    calibration: Calibration | None,
    options: PlanOptions,
    major: int,
    work: Path,
) -> tuple[PlanDescription, dict[str, Any]]:
    """Prepares the graph for a TensorRT major version in `work`; needs neither TensorRT nor a GPU.

    Raises:
        EngineError: the precision or a switch is not one of that version's, or see `rewrite`.
    """
    if major < 10:
        switches = sorted({"hardware_compatible", "version_compatible"} & set(options.switches.used))
        if precision not in PRECISIONS_OF_8 or switches:
            raise EngineError(
                f"TensorRT {major} has {', '.join(PRECISIONS_OF_8)} and no compatibility switches; asked for "
                f"{', '.join([precision, *switches])}: build with TensorRT 10 or newer"
            )
    prepared = work / graph.name
    report: dict[str, Any] = {"precision": precision}
    is_rewritten = precision != "fp32" and (major >= 10 or precision == "int8")
    if is_rewritten:
        report |= rewrite(
            graph, precision, prepared, calibration, method=options.method, keep=options.keep, typed=major >= 10
        )
    model = cast_uint8_inputs(onnx.load(prepared if is_rewritten else graph))
    fp32_layers: tuple[str, ...] = ()
    if major < 10:
        kept = {*options.keep, *residual_sums(model)}
        model = lower_to_opset16(model)
        fp32_layers = tuple(
            node.name
            for node in model.graph.node
            if node.name in kept or node.op_type == "Softmax" or (f"/{NORM}/" in node.name and node.op_type != "Cast")
        )
    onnx.save(model, prepared)
    profiles = graph_profiles(prepared, options.max_batch_size, options.image_tokens)
    return (
        PlanDescription(
            graph=prepared,
            plan=folder / f"{graph.stem}{PLAN_SUFFIX}",
            precision=precision,
            profiles=(joined(profiles),) if major < 10 else tuple(profiles),
            tensorrt_major=major,
            options=options,
            fp32_layers=fp32_layers if precision != "fp32" else (),
        ),
        report,
    )


def _check_writable(timing_cache: Path) -> None:
    """Before hours of building, not behind them; an empty file is a cache of nothing."""
    try:
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        timing_cache.open("ab").close()
    except OSError as error:
        raise EngineError(f"--timing-cache {timing_cache} cannot be written ({error}); name another file") from error


def has_api() -> bool:
    """Whether TensorRT's Python package is installed."""
    return importlib.util.find_spec("tensorrt") is not None


def _api() -> ModuleType:
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:  # its libraries may be absent although the package is there
        raise EngineError(f"the package tensorrt cannot be imported: {error}; build inside of {CONTAINER}") from error


def _build_with_api(trt: ModuleType, description: PlanDescription) -> dict[str, Any]:
    with description.log.open("w", encoding="utf-8") as stream:
        logger = _logger(trt, stream)
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt, description.tensorrt_major))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(description.graph)):
            faults = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise EngineError(f"TensorRT {trt.__version__} cannot read {description.graph.name}: {faults}")
        config = _config(trt, builder, network, description)
        timing_cache = description.options.switches.timing_cache
        if timing_cache:
            _use_timing_cache(config, timing_cache)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            stream.flush()
            raise EngineError(
                f"TensorRT {trt.__version__} built no plan of {description.graph.name}; its log ends:\n"
                f"{description.log_tail()}"
            )
        description.plan.write_bytes(plan)
        if timing_cache:
            timing_cache.write_bytes(config.get_timing_cache().serialize())
    return {"tool": "python", "tensorrt": str(trt.__version__)}


def _network_flags(trt: ModuleType, major: int) -> int:
    if major >= 11:  # every network is strongly typed and has an explicit batch
        return 0
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if major == 10 else flags.EXPLICIT_BATCH)


def _config(trt: ModuleType, builder: Any, network: Any, description: PlanDescription) -> Any:  # noqa: ANN401
    config = builder.create_builder_config()
    if description.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa are not fp32
    if description.tensorrt_major < 10 and description.precision != "fp32":
        config.set_flag(trt.BuilderFlag.FP16)
        if description.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.name in description.fp32_layers:
                layer.precision = trt.float32
    if description.options.switches.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if description.options.switches.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    for shapes in description.profiles:
        profile = builder.create_optimization_profile()
        for name, (least, best, greatest) in shapes.items():
            profile.set_shape(name, least, best, greatest)
        config.add_optimization_profile(profile)
    return config


def _use_timing_cache(config: Any, path: Path) -> None:  # noqa: ANN401
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        raise EngineError(f"the timing cache {path} is of another TensorRT or GPU; delete it or name another file")


def _logger(trt: ModuleType, stream: IO[str]) -> Any:  # noqa: ANN401
    class Log(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if not stream.closed:  # TensorRT's objects log their end too, which an exception may put off
                stream.write(f"{severity}: {message}\n")

    return Log()
