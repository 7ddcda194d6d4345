"""Every Triton model's tensors, stated once.

config.pbtxt, ONNX input names and dynamic axes, and the gateway's requests derive from MODELS. A shape
is per item (Triton's batch dimension in front is left out); a string in it is a symbol:

    tile         side of the square image tile, pixels     fixed by a checkpoint
    embedding    width of a prompt embedding               fixed by a checkpoint
    boxes        boxes that leave the detector per tile    fixed by a checkpoint
    prompts      prompts asked for at once                 varies, padded to PROMPT_BUCKETS
    length       tokens of a prompt                        varies, padded to LENGTH_BUCKETS
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DType = Literal["UINT8", "INT64", "FP32"]
NUMPY_DTYPES: Mapping[DType, type[np.generic]] = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}

# Requests are batched by Triton only when their shapes agree: few buckets, many batches.
PROMPT_BUCKETS = (16, 64)
LENGTH_BUCKETS = (32, 128)
VARYING = ("prompts", "length")

INSTANCES = 2  # of each model; a Python-backend instance is a process, so each gets its share of the cores
QUEUE_DELAY_MICROSECONDS = 1000  # how long Triton waits for company before it runs a batch


class ContractError(ValueError):
    """A model, engine or request does not have the tensors that the contract states."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name, Triton data type and shape per item."""

    name: str
    dtype: DType
    shape: tuple[str, ...] | tuple[str | int, ...]

    def dims(self, dimensions: "Dimensions") -> list[int]:
        """The shape with fixed symbols replaced and varying ones as -1, as config.pbtxt writes it."""
        return [dim if isinstance(dim, int) else dimensions.size(dim) for dim in self.shape]


@dataclass(frozen=True)
class ModelSpec:
    """One Triton model: its name, tensors and the most items in one batch."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int


@dataclass(frozen=True)
class Dimensions:
    """What a checkpoint fixes: tile side in pixels, embedding width, boxes per tile."""

    tile: int
    embedding: int
    boxes: int

    def size(self, symbol: str) -> int:
        """The size of a symbol; -1 for one that varies."""
        return -1 if symbol in VARYING else int(getattr(self, symbol))


DETECTOR = ModelSpec(
    name="detector",
    inputs=(
        TensorSpec("IMAGE", "UINT8", ("tile", "tile", 3)),  # RGB, normalised inside the model
        TensorSpec("PROMPT_EMBEDDINGS", "FP32", ("prompts", "embedding")),  # zero rows are padding
    ),
    outputs=(
        TensorSpec("BOXES", "FP32", ("boxes", 4)),  # xyxy as fractions of the tile, 0..1
        TensorSpec("SCORES", "FP32", ("boxes", "prompts")),  # probability that the box shows the prompt
    ),
    max_batch_size=8,  # the nine tiles of a 640 x 640 board make two batches, one for each instance
)

PROMPT_ENCODER = ModelSpec(
    name="prompt_encoder",
    inputs=(
        TensorSpec("INPUT_IDS", "INT64", ("length",)),
        TensorSpec("ATTENTION_MASK", "INT64", ("length",)),  # 1 for a token, 0 for padding
    ),
    outputs=(TensorSpec("PROMPT_EMBEDDINGS", "FP32", ("embedding",)),),
    max_batch_size=64,
)

MODELS = (DETECTOR, PROMPT_ENCODER)


def bucket(size: int, buckets: Sequence[int], what: str) -> int:
    """The smallest bucket that holds `size`.

    Raises:
        ContractError: `size` is above the largest bucket.
    """
    for limit in buckets:
        if size <= limit:
            return limit
    raise ContractError(f"{what}: {size} is above the largest supported size, {max(buckets)}; send fewer")


def match(
    spec: ModelSpec,
    inputs: Mapping[str, tuple[str, Sequence[int]]],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
    known: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Compares a served model's tensors with the contract and returns the sizes of its fixed symbols.

    Args:
        spec: what the contract states.
        inputs: name -> (data type, dims per item without the batch dimension), as served.
        outputs: the same for the outputs.
        known: sizes already found in another model of the same checkpoint; they must agree.

    Raises:
        ContractError: names every tensor that differs, what came and what was expected.
    """
    sizes = dict(known or {})
    faults: list[str] = []
    for kind, stated, served in (("input", spec.inputs, inputs), ("output", spec.outputs, outputs)):
        for tensor in stated:
            if tensor.name not in served:
                faults.append(f"{kind} {tensor.name} is missing")
                continue
            dtype, dims = served[tensor.name]
            fault = _differs(tensor, dtype, dims, sizes)
            if fault:
                faults.append(f"{kind} {tensor.name}: {fault}")
        extra = sorted(set(served) - {tensor.name for tensor in stated})
        faults.extend(f"{kind} {name} is not in the contract" for name in extra)
    if faults:
        raise ContractError(
            f"model {spec.name!r} does not match the contract: " + "; ".join(faults) + ". Export it again."
        )
    return sizes


def _differs(tensor: TensorSpec, dtype: str, dims: Sequence[int], sizes: dict[str, int]) -> str | None:
    if dtype != tensor.dtype:
        return f"data type {dtype}, expected {tensor.dtype}"
    if len(dims) != len(tensor.shape):
        return f"shape {list(dims)}, expected {list(tensor.shape)}"
    for symbol, dim in zip(tensor.shape, dims, strict=True):
        expected = symbol if isinstance(symbol, int) else -1 if symbol in VARYING else sizes.setdefault(symbol, dim)
        if dim != expected:
            return f"shape {list(dims)}, expected {list(tensor.shape)} with {symbol} = {expected}"
    return None
