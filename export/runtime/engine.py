"""One engine interface over OpenVINO and ONNX Runtime; the file in a version folder decides which."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import INSTANCES, NUMPY_DTYPES, ContractError, ModelSpec

Arrays = Mapping[str, NDArray[Any]]


class EngineError(RuntimeError):
    """An engine file is missing or cannot be loaded."""


class Engine(Protocol):
    """A loaded network: named arrays in, named arrays out, the batch in front."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch."""
        ...


class OpenVinoEngine:
    """OpenVINO IR on the CPU, in fp32 also on machines whose default would be bfloat16."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        self._outputs = [output.any_name for output in self._request.model_outputs]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch; the arrays returned are the caller's own."""
        self._request.infer(dict(inputs))
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}


class OnnxRuntimeEngine:
    """An ONNX graph on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One pass over a batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


ENGINES: dict[str, Callable[[Path, int], Engine]] = {"model.xml": OpenVinoEngine, "model.onnx": OnnxRuntimeEngine}


def load_engine(folder: Path) -> Engine:
    """The engine of a version folder, with its share of this machine's cores.

    Raises:
        EngineError: the folder holds no engine file, more than one, or one that cannot be read.
    """
    found = [name for name in ENGINES if (folder / name).is_file()]
    if len(found) != 1:
        raise EngineError(
            f"{folder} holds {found or 'no engine'}, expected one of {', '.join(ENGINES)}; export it again"
        )
    threads = max(1, len(os.sched_getaffinity(0)) // INSTANCES)
    try:
        return ENGINES[found[0]](folder / found[0], threads)
    except Exception as error:  # each library raises its own types
        raise EngineError(f"{folder / found[0]} cannot be loaded: {error}; export it again") from error


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
