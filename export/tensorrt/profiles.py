"""Optimisation profiles: the shapes that a plan is tuned for, from the contract's buckets.

One profile for each combination of a batch bucket and a bucket of every other varying axis. Prompts and token
lengths come padded to exactly a bucket's size; a bucket of the batch or of a step serves the sizes above the bucket
before it. The ranges do not overlap on purpose: where several profiles take a batch, Triton's TensorRT backend picks
by a distance to the optimum that compares wrong axes (`EvaluateTensorRTContext`, main of July 2026).
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from export.contract.tensors import BATCH, LENGTH_BUCKETS, PROMPT_BUCKETS, STEP_BUCKETS, VARYING, ModelSpec
from export.runtime.error import EngineError

BATCH_BUCKETS = (1, 4, 8)
ENCODED = "encoded"  # axis of the generator's decoder: image tokens and then the prompt's
STEP = "step"  # another: tokens that it takes at once


class Range(NamedTuple):
    """Least, best and greatest of a size or a shape."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    greatest: tuple[int, ...]


Profile = dict[str, Range]  # shapes by input name, batch in front


def batch_buckets(max_batch_size: int) -> tuple[int, ...]:
    """The batch sizes that a model is tuned for; the last one is always its largest batch."""
    return (*(size for size in BATCH_BUCKETS if size < max_batch_size), max_batch_size)


def buckets(image_tokens: int) -> dict[str, tuple[int, ...]]:
    """The sizes of each varying axis of the contract, for a network that makes `image_tokens` of a tile."""
    return {
        "prompts": PROMPT_BUCKETS,
        "length": LENGTH_BUCKETS,
        ENCODED: tuple(image_tokens + length for length in LENGTH_BUCKETS),
        STEP: STEP_BUCKETS,
    }


def combinations(sizes_by_axis: Mapping[str, Sequence[int]], max_batch_size: int) -> list[dict[str, tuple[int, int]]]:
    """(least, greatest) of the batch and of each varying axis, one dictionary per profile, in plan order."""
    names = sorted(sizes_by_axis)
    sides = [_ranges(batch_buckets(max_batch_size))]
    sides += [
        _ranges(sizes_by_axis[name]) if name == STEP else [(size, size) for size in sizes_by_axis[name]]
        for name in names
    ]
    return [dict(zip((BATCH, *names), sizes, strict=True)) for sizes in itertools.product(*sides)]


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(least, greatest) of each bucket, from 1 up without a gap."""
    return list(zip((1, *(size + 1 for size in sizes)), sizes, strict=False))


def graph_profiles(graph: Path, max_batch_size: int, image_tokens: int = 0) -> list[Profile]:
    """The profiles of an ONNX graph, from the names of its inputs' varying axes.

    Raises:
        EngineError: an axis varies that the contract has no buckets for.
    """
    import onnx  # only who builds has it: versions are promoted without

    inputs = onnx.load(graph, load_external_data=False).graph.input
    shapes = {
        tensor.name: [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim] for tensor in inputs
    }
    symbols = {dim for shape in shapes.values() for dim in shape if isinstance(dim, str)} - {BATCH}
    known = buckets(image_tokens)
    unknown = sorted(symbols - set(known))
    if unknown:
        raise EngineError(
            f"{graph}: no buckets for the varying axes {', '.join(unknown)}; known are {', '.join(known)}: "
            "name the axis as the contract does, or give it buckets there"
        )
    return [
        {name: _shape_range(shape, sizes) for name, shape in shapes.items()}
        for sizes in combinations({symbol: known[symbol] for symbol in symbols}, max_batch_size)
    ]


def joined(profiles: Sequence[Profile]) -> Profile:
    """One profile over all of them: trtexec of TensorRT 8 knows no other."""
    return {
        name: Range(
            min(profile[name].least for profile in profiles),
            max(profile[name].best for profile in profiles),
            max(profile[name].greatest for profile in profiles),
        )
        for name in profiles[0]
    }


def tuned_sizes(spec: ModelSpec) -> list[dict[str, int]]:
    """The best size of the batch and of each varying axis for each profile of a Triton model, in plan order."""
    known = buckets(image_tokens=0)
    symbols = {dim for tensor in spec.inputs for dim in tensor.shape if isinstance(dim, str) and dim in VARYING}
    return [
        {name: greatest for name, (_, greatest) in sizes.items()}
        for sizes in combinations({symbol: known[symbol] for symbol in symbols}, spec.max_batch_size)
    ]


def _shape_range(shape: Sequence[str | int], sizes: dict[str, tuple[int, int]]) -> Range:
    least, greatest = (tuple(sizes[dim][side] if isinstance(dim, str) else dim for dim in shape) for side in (0, 1))
    return Range(least, greatest, greatest)  # most batches under load are full ones
