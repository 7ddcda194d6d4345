"""A TensorRT plan behind the interface of the other engines, for the gate and for models that own a decoding loop.

One execution context and one CUDA stream; device buffers grow to the largest batch seen and are kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.runtime.error import EngineError
from export.tensorrt.cuda import call, device, runtime


def select_gpu(number: int) -> None:
    """Makes a GPU, by its number among those visible, the one that this thread loads plans on.

    Raises:
        EngineError: there is none of that number, or no cuda-bindings.
    """
    call(runtime().cudaSetDevice(number))


class TensorRtEngine:
    """A plan on the GPU that is selected when it is loaded; needs the TensorRT version that built it."""

    def __init__(self, path: Path, threads: int) -> None:
        """Loads a plan; `threads` is the CPU engines' matter and changes nothing here.

        Raises:
            EngineError: no TensorRT, no GPU, or a plan of another version or GPU.
        """
        try:
            import tensorrt as trt
        except (ImportError, OSError) as error:
            raise EngineError(
                f"{path} needs TensorRT, which cannot be imported: {error}; pip install '.[cuda,tensorrt]'"
            ) from error
        machine = device()
        self._cuda = runtime()
        self._device = int(call(self._cuda.cudaGetDevice()))
        loader = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        if hasattr(loader, "engine_host_code_allowed"):
            loader.engine_host_code_allowed = True  # version-compatible plans carry a lean runtime; ours are trusted
        self._engine = loader.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{path} was not built by TensorRT {trt.__version__} for {machine['gpu']}; a plan loads only in the "
                "version and on the GPU that built it: build it here"
            )
        self._context = self._engine.create_execution_context()
        self._stream = int(call(self._cuda.cudaStreamCreate()))
        self._buffers: dict[str, tuple[int, int]] = {}  # device address and bytes by tensor name
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = [name for name in names if is_input[name]]
        self._dtypes = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        self._outputs = [name for name in names if not is_input[name]]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One pass over a batch; the arrays returned are the caller's own.

        Raises:
            EngineError: no profile of the plan takes these shapes, or the GPU reports a fault.
        """
        call(self._cuda.cudaSetDevice(self._device))  # each thread selects its own
        arrays = {name: np.ascontiguousarray(inputs[name], self._dtypes[name]) for name in self._inputs}
        self._context.set_optimization_profile_async(self._profile(arrays), self._stream)
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
            self._bind(name, array.nbytes)
            self._copy(self._buffers[name][0], array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")
        outputs = {
            name: np.empty(tuple(self._context.get_tensor_shape(name)), self._dtypes[name]) for name in self._outputs
        }
        for name, array in outputs.items():
            self._bind(name, array.nbytes)
        if not self._context.execute_async_v3(self._stream):
            raise EngineError("TensorRT refused to run a batch; its reason is on standard error")
        for name, array in outputs.items():
            self._copy(array.ctypes.data, self._buffers[name][0], array.nbytes, "cudaMemcpyDeviceToHost")
        call(self._cuda.cudaStreamSynchronize(self._stream))
        return outputs

    def _profile(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        for index in range(self._engine.num_optimization_profiles):
            ranges = {name: self._engine.get_tensor_profile_shape(name, index) for name in arrays}
            if all(
                low <= size <= high
                for name, (least, _, greatest) in ranges.items()
                for low, size, high in zip(least, arrays[name].shape, greatest, strict=True)
            ):
                return index
        raise EngineError(
            f"no profile of the plan takes { ({name: array.shape for name, array in arrays.items()}) }; "
            "pad to the contract's buckets"
        )

    def _bind(self, name: str, size: int) -> None:
        address, capacity = self._buffers.get(name, (0, 0))
        if size > capacity:
            if address:
                call(self._cuda.cudaFree(address))
            address = int(call(self._cuda.cudaMalloc(size)))
            self._buffers[name] = (address, size)
        self._context.set_tensor_address(name, address)

    def _copy(self, to: int, source: int, size: int, kind: str) -> None:
        kinds = self._cuda.cudaMemcpyKind
        call(self._cuda.cudaMemcpyAsync(to, source, size, getattr(kinds, kind), self._stream))
