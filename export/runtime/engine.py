"""One engine interface over OpenVINO, ONNX Runtime and TensorRT; the file in a version folder decides which."""

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import INSTANCES, NUMPY_DTYPES, ContractError, ModelSpec
from export.runtime.error import EngineError
from export.runtime.inference_precision import read_inference_precision

Arrays = Mapping[str, NDArray[Any]]
CGROUP = Path("/sys/fs/cgroup")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Engine(Protocol):
    """A loaded network: named arrays in, named arrays out, the batch in front."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch."""
        ...


class OpenVinoEngine:
    """OpenVINO IR on the CPU, in the precision that the file is marked with, whatever the machine's default."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # each instance is a process, and each would be pinned to the same first cores
            "INFERENCE_PRECISION_HINT": read_inference_precision(model),
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._outputs = [output.any_name for output in self._request.model_outputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch; the arrays returned are the caller's own."""
        self._request.infer(dict(inputs), share_inputs=True)  # the generator's caches are large
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}


def onnxruntime_providers() -> dict[str, dict[str, str]]:
    """What ONNX Runtime is to run a graph on, best first, with options: a GPU where onnxruntime-gpu is installed."""
    import onnxruntime

    is_built_for_gpu = CUDA in onnxruntime.get_available_providers()
    return ({CUDA: {"use_tf32": "0"}} if is_built_for_gpu else {}) | {CPU: {}}  # ten bits of mantissa are not fp32


class OnnxRuntimeEngine:
    """An ONNX graph on ONNX Runtime, on the first GPU where there is one that it can use."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=list(onnxruntime_providers().items())
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def _tensorrt_engine(path: Path, threads: int) -> Engine:
    from export.tensorrt.engine import TensorRtEngine  # only where there is a plan to load

    return TensorRtEngine(path, threads)


def select_gpu(number: int) -> None:
    """Makes a GPU, by its number among those visible, the one that this thread loads plans on.

    Raises:
        EngineError: there is none of that number, or no cuda-bindings.
    """
    from export.tensorrt import engine  # only where there is a GPU

    engine.select_gpu(number)


ENGINES: dict[str, Callable[[Path, int], Engine]] = {
    ".xml": OpenVinoEngine,
    ".onnx": OnnxRuntimeEngine,
    ".plan": _tensorrt_engine,
}


def engine_file(folder: Path, graph: str = "model") -> Path:
    """The file of one graph's engine in a version folder.

    Raises:
        EngineError: the folder holds none, or more than one.
    """
    names = [f"{graph}{suffix}" for suffix in ENGINES]
    found = [name for name in names if (folder / name).is_file()]
    if len(found) != 1:
        raise EngineError(f"{folder} holds {found or 'no engine'}, expected one of {', '.join(names)}; export it again")
    return folder / found[0]


def usable_cores(cgroup: Path = CGROUP) -> int:
    """How many cores this process may use: those that it may run on, or the container's CPU limit where that is less.

    Args:
        cgroup: the folder of the container's control group, of version 2 or 1.
    """
    quota, period = "max", "1"
    with suppress(OSError):  # version 1, which says -1 for no limit
        quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
    with suppress(OSError):
        quota, period = (cgroup / "cpu.max").read_text().split()
    cores = len(os.sched_getaffinity(0))
    return cores if quota.strip() in {"max", "-1"} else min(cores, math.ceil(int(quota) / int(period)))


def load_engine(folder: Path, graph: str = "model", threads: int | None = None) -> Engine:
    """The engine of one graph of a version folder, with an instance's share of this machine's cores or `threads`.

    Raises:
        EngineError: the folder holds no engine file, more than one, or one that cannot be read or run here.
    """
    file = engine_file(folder, graph)
    threads = threads or max(1, usable_cores() // INSTANCES)
    try:
        return ENGINES[file.suffix](file, threads)
    except EngineError:  # has a remedy of its own
        raise
    except Exception as error:  # each library raises its own types
        raise EngineError(f"{file} cannot be loaded: {error}; export it again") from error


def check_inputs(spec: ModelSpec, inputs: Arrays) -> None:
    """Compares arrays, batch in front, with the contract.

    Raises:
        ContractError: names the tensor, what came and what was expected.
    """
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        if array.dtype != NUMPY_DTYPES[tensor.dtype] or array.ndim != len(tensor.shape) + 1:
            raise ContractError(
                f"{spec.name}: {tensor.name} is {array.dtype}{list(array.shape)}, "
                f"expected {tensor.dtype}{['batch', *tensor.shape]}"
            )
