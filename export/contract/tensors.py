"""Every Triton model's tensors, stated once.

config.pbtxt, ONNX input names and dynamic axes, and the gateway's requests derive from MODELS. A shape
is per item (Triton's batch dimension in front is left out); a string in it is a symbol:

    tile         side of the square image tile, pixels     fixed by a checkpoint
    embedding    width of a prompt embedding               fixed by a checkpoint
    boxes        boxes that leave the detector per tile    fixed by a checkpoint
    prompts      prompts asked for at once                 varies, padded to PROMPT_BUCKETS
    length       tokens of a prompt                        varies, padded to LENGTH_BUCKETS

A Triton model owns one graph, or as the generator several; what passes between those never leaves the model:

    image_tokens  tokens of an image                        fixed by a checkpoint
    encoded       tokens of an image and a prompt together  varies with `length`
    step          tokens that the decoder takes at once     varies, up to STEP_TOKENS
    heads         attention heads of the decoder            fixed by a checkpoint
    head_width    width of one of them                      fixed by a checkpoint
    vocabulary    tokens that the generator knows           fixed by a checkpoint
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DType = Literal["UINT8", "INT32", "INT64", "FP32"]
NUMPY_DTYPES: Mapping[DType, type[np.generic]] = {
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
}
NARROWED: Mapping[DType, DType] = {"INT64": "INT32"}  # as plans of TensorRT 8.5, which have no INT64, are served

# Requests are batched by Triton only when their shapes agree: few buckets, many batches.
PROMPT_BUCKETS = (16, 64)
LENGTH_BUCKETS = (32, 128)
STEP_BUCKETS = (1, 4, 8)  # a bucket serves the sizes above the one before it: nothing is padded
STEP_TOKENS = STEP_BUCKETS[-1]  # three locations of a box and a label of up to five tokens
BATCH = "batch"  # the first axis of every tensor of a graph
VARYING = ("prompts", "length", "encoded", "step")  # of its other axes
GENERATED_TOKENS = 160  # of one answer at most: 31 boxes with a label of one token and </s>

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

GENERATOR = ModelSpec(
    name="generator",
    inputs=(
        TensorSpec("IMAGE", "UINT8", ("tile", "tile", 3)),
        TensorSpec("INPUT_IDS", "INT64", ("length",)),
        TensorSpec("ATTENTION_MASK", "INT64", ("length",)),
    ),
    outputs=(
        TensorSpec("TOKENS", "INT64", (GENERATED_TOKENS,)),  # vocabulary ids behind <s>; <pad> after </s>
        # Of each token among those that the grammar allows; a location's is that of its neighbourhood, +-6 bins.
        TensorSpec("LOG_PROBS", "FP32", (GENERATED_TOKENS,)),
    ),
    max_batch_size=8,
)

GROUNDING = (DETECTOR, PROMPT_ENCODER)  # the models of the fast reading: all that `POST /detect` needs
MODELS = (*GROUNDING, GENERATOR)


@dataclass(frozen=True)
class GraphSpec:
    """One engine of a Triton model: its name, which is its file's, and its tensors, the batch left out."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def graphs(spec: ModelSpec) -> tuple[str, ...]:
    """The names of a model's graphs; an engine's file in a version folder is called after its graph."""
    return ("vision", "encoder", "decoder") if spec is GENERATOR else ("model",)


def graph_spec(spec: ModelSpec, graph: str, layers: int) -> GraphSpec:
    """The tensors of a model's graph; `layers` are the decoder's, of no account where there is one graph.

    What one graph gives the next takes under the same name: the image's tokens, which all prompts about it share, and
    what the encoder makes of them and a prompt. The decoder takes one step: it gets tokens that follow each other, the
    place of the first and the caches, whose columns are keys transposed or values, one for each place below POSITION.
    Each token sees those before it. It answers with the token that comes next behind each and with their columns, of
    which the caller writes those that are to stay into the caches.
    """
    if graphs(spec) == (graph,):
        return GraphSpec(graph, spec.inputs, spec.outputs)
    image, *words = spec.inputs
    features = TensorSpec("IMAGE_FEATURES", "FP32", ("image_tokens", "embedding"))
    if graph == "vision":
        return GraphSpec(graph, (image,), (features,))
    passed = [TensorSpec("ENCODER_BIAS", "FP32", ("encoded",))]  # 0, or far below for padding
    caches: list[TensorSpec] = []
    columns: list[TensorSpec] = []
    for layer in range(layers):
        passed += [
            TensorSpec(f"CROSS_KEYS_{layer}", "FP32", ("heads", "head_width", "encoded")),
            TensorSpec(f"CROSS_VALUES_{layer}", "FP32", ("heads", "encoded", "head_width")),
        ]
        caches += [
            TensorSpec(f"SELF_KEYS_{layer}", "FP32", ("heads", "head_width", GENERATED_TOKENS)),
            TensorSpec(f"SELF_VALUES_{layer}", "FP32", ("heads", GENERATED_TOKENS, "head_width")),
        ]
        columns += [
            TensorSpec(f"NEW_KEYS_{layer}", "FP32", ("heads", "head_width", "step")),
            TensorSpec(f"NEW_VALUES_{layer}", "FP32", ("heads", "step", "head_width")),
        ]
    if graph == "encoder":
        return GraphSpec(graph, (features, *words), tuple(passed))
    step = (
        TensorSpec("TOKENS", "INT64", ("step",)),  # indices into the generator's vocabulary, as NEXT; its slots behind
        TensorSpec("POSITION", "INT64", (1,)),  # 0 for the token that starts the decoder
        TensorSpec("ALLOWED", "UINT8", ("step", "vocabulary")),  # 1 where the grammar allows a token behind each
    )
    answer = (TensorSpec("NEXT", "INT64", ("step",)), TensorSpec("LOG_PROB", "FP32", ("step",)))
    return GraphSpec(graph, (*step, *passed, *caches), (*answer, *columns))


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

    A tensor may be served in the type that NARROWED has for its own: whoever calls the model sends it as that.

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
    if dtype not in (tensor.dtype, NARROWED.get(tensor.dtype)):
        return f"data type {dtype}, expected {tensor.dtype}"
    if len(dims) != len(tensor.shape):
        return f"shape {list(dims)}, expected {list(tensor.shape)}"
    for symbol, dim in zip(tensor.shape, dims, strict=True):
        expected = symbol if isinstance(symbol, int) else -1 if symbol in VARYING else sizes.setdefault(symbol, dim)
        if dim != expected:
            return f"shape {list(dims)}, expected {list(tensor.shape)} with {symbol} = {expected}"
    return None
