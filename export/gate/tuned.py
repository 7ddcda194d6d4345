"""Inputs of the sizes that an engine is tuned for one by one: each has kernels of its own, and none may go unseen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import BATCH, ModelSpec
from export.runtime.engine import Arrays

Size = Mapping[str, int]  # of the batch and of the contract's varying axes
Sizes = Mapping[str, Sequence[Size]]  # by model


def sized(spec: ModelSpec, inputs: Arrays, size: Size) -> dict[str, NDArray[Any]]:
    """A model's inputs brought to a size: items come again from the first one on, other axes are cut or get zeros."""
    changed = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        array = array[np.arange(size[BATCH]) % len(array)]
        for axis, symbol in enumerate(map(str, tensor.shape), start=1):
            if symbol in size:
                array = array.take(range(min(array.shape[axis], size[symbol])), axis)
                missing = [(0, size[symbol] - array.shape[axis] if each == axis else 0) for each in range(array.ndim)]
                array = np.pad(array, missing)
        changed[tensor.name] = array
    return changed


def label(size: Size) -> str:
    """How a report names a size."""
    return ", ".join(f"{name} {number}" for name, number in size.items())
