"""The few CUDA runtime calls that building and running a plan need, through NVIDIA's cuda-bindings; no torch."""

from typing import Any

from export.runtime.error import EngineError

REMEDY = (
    "run on the machine that will serve, and a container with --gpus all; "
    "python -m export.build --target openvino needs no GPU"
)


def runtime() -> Any:  # noqa: ANN401
    """The module cuda.bindings.runtime.

    Raises:
        EngineError: it is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(f"cuda-bindings is not installed ({error}): pip install '.[cuda]'") from error
    return runtime


def call(result: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """The value of a CUDA call, which returns (error code, value).

    Raises:
        EngineError: the code is not success.
    """
    code, *values = result
    if int(code):
        raise EngineError(f"CUDA: {code.name}; {REMEDY}")
    return values[0] if values else None


def device() -> dict[str, str]:
    """Name and compute capability of the selected GPU, the first unless another is, as the manifest states them.

    Raises:
        EngineError: there is none, or its driver is older than this CUDA.
    """
    cuda = runtime()
    if not call(cuda.cudaGetDeviceCount()):
        raise EngineError(f"no GPU is visible; {REMEDY}")
    properties = call(cuda.cudaGetDeviceProperties(call(cuda.cudaGetDevice())))
    return {"gpu": properties.name.decode(), "compute_capability": f"{properties.major}.{properties.minor}"}
