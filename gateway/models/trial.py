"""Real inferences with nothing in them: whether the models of a version answer, in every shape that requests have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import LENGTH_BUCKETS, NUMPY_DTYPES, PROMPT_BUCKETS, ModelSpec
from gateway.errors import ModelError
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline

SHAPES = {"prompts": PROMPT_BUCKETS, "length": LENGTH_BUCKETS}


async def try_shapes(triton: Triton, served: Served, models: Sequence[ModelSpec], deadline: Deadline) -> None:
    """Each model with a single item and a full batch of each bucket, which also warms it.

    Raises:
        ServiceError: a model does not answer, or not as the contract states it.
    """
    for spec in models:
        symbol = next(symbol for symbol in SHAPES if any(symbol in tensor.shape for tensor in spec.inputs))
        for size in SHAPES[symbol]:
            for batch in (1, spec.max_batch_size):
                await _try(triton, served, spec, {symbol: size}, batch, deadline)


async def try_once(triton: Triton, served: Served, models: Sequence[ModelSpec], deadline: Deadline) -> None:
    """Each model with the smallest thing that it can be asked; raises as `try_shapes` does."""
    smallest = {symbol: buckets[0] for symbol, buckets in SHAPES.items()}
    for spec in models:
        await _try(triton, served, spec, smallest, 1, deadline)


async def _try(
    triton: Triton, served: Served, spec: ModelSpec, varying: dict[str, int], batch: int, deadline: Deadline
) -> None:
    def shape(dims: Sequence[int | str]) -> list[int]:
        sizes = [
            dim if isinstance(dim, int) else varying[dim] if dim in varying else served.dimensions.size(dim)
            for dim in dims
        ]
        return [batch, *sizes]

    inputs: dict[str, NDArray[Any]] = {
        tensor.name: np.ones(shape(tensor.shape), NUMPY_DTYPES[tensor.dtype]) for tensor in spec.inputs
    }
    outputs = await triton.infer(spec, served.version, inputs, deadline)
    for tensor in spec.outputs:
        came, expected = outputs[tensor.name], shape(tensor.shape)
        if list(came.shape) != expected or not np.isfinite(came).all():
            raise ModelError(
                f"{spec.name} {served.version} answers {tensor.name} of shape {list(came.shape)}, expected {expected} "
                "with finite values; export it again"
            )
