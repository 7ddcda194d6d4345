"""config.pbtxt of each Triton model, from the contract, through Triton's own protobuf.

openvino, onnxruntime   Triton's Python backend on CPU instances
tensorrt                tensorrt_plan on GPU instances; the generator, whose loop owns its plans, stays in Python

Plans of TensorRT 8.5 have one profile, and INT32 where the contract says INT64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.contract.tensors import (
    BATCH,
    INSTANCES,
    NARROWED,
    QUEUE_DELAY_MICROSECONDS,
    VARYING,
    Dimensions,
    ModelSpec,
    TensorSpec,
    graphs,
)
from export.tensorrt.profiles import batch_buckets, tuned_sizes

TENSORRT = "tensorrt"
NEWEST_TENSORRT = 11
QUEUE_TIMEOUT_MICROSECONDS = 10_000_000  # a request that waited this long is of no use to a line any more
MAX_QUEUE_SIZE = 256  # requests; more are rejected at once


def render_config(
    spec: ModelSpec,
    dimensions: Dimensions,
    parameters: Mapping[str, str],
    target: str,
    tensorrt_major: int = NEWEST_TENSORRT,
) -> str:
    """The text of config.pbtxt for a model whose engines are of a target; `tensorrt_major` built them, if it did."""
    is_plan = target == TENSORRT and len(graphs(spec)) == 1
    if is_plan and tensorrt_major < 10:
        spec = replace(spec, inputs=_narrowed(spec.inputs), outputs=_narrowed(spec.outputs))
    config = pb.ModelConfig(
        name=spec.name,
        max_batch_size=spec.max_batch_size,
        input=[pb.ModelInput(**_tensor(tensor, dimensions)) for tensor in spec.inputs],
        output=[pb.ModelOutput(**_tensor(tensor, dimensions)) for tensor in spec.outputs],
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=QUEUE_DELAY_MICROSECONDS,
            default_queue_policy=pb.ModelQueuePolicy(
                timeout_action=pb.ModelQueuePolicy.REJECT,
                default_timeout_microseconds=QUEUE_TIMEOUT_MICROSECONDS,
                max_queue_size=MAX_QUEUE_SIZE,
            ),
        ),
        parameters={name: pb.ModelParameter(string_value=value) for name, value in parameters.items()},
    )
    sizes = tuned_sizes(spec)
    if is_plan:
        _serve_plan(config, spec, dimensions, sizes, profiles=1 if tensorrt_major < 10 else len(sizes))
    else:
        kind = pb.ModelInstanceGroup.KIND_GPU if target == TENSORRT else pb.ModelInstanceGroup.KIND_CPU
        config.backend = "python"
        config.instance_group.add(kind=kind, count=INSTANCES)
        sizes = sizes[:1]  # enough to load what is loaded late; the shapes are not tuned one by one
    config.model_warmup.extend(_warmup(spec, dimensions, chosen) for chosen in sizes)
    return str(text_format.MessageToString(config))


def read_config(text: str) -> pb.ModelConfig:
    """A config.pbtxt as a message; str() is the way back.

    Raises:
        ValueError: it is none.
    """
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"no config.pbtxt: {error}") from error


def _narrowed(tensors: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(tensor, dtype=NARROWED.get(tensor.dtype, tensor.dtype)) for tensor in tensors)


def _serve_plan(
    config: pb.ModelConfig, spec: ModelSpec, dimensions: Dimensions, sizes: list[dict[str, int]], profiles: int
) -> None:
    """Triton's TensorRT backend: each instance gets a context for each profile, and a CUDA graph for each tuned shape.

    A graph runs for exactly its shapes, so batches of those sizes are preferred; another size runs without one.
    """
    config.platform = "tensorrt_plan"
    config.default_model_filename = "model.plan"
    config.instance_group.add(
        kind=pb.ModelInstanceGroup.KIND_GPU, count=INSTANCES, profile=[str(index) for index in range(profiles)]
    )
    config.dynamic_batching.preferred_batch_size.extend(size for size in batch_buckets(spec.max_batch_size) if size > 1)
    config.optimization.cuda.graphs = True
    for chosen in sizes:
        graph = config.optimization.cuda.graph_spec.add(batch_size=chosen[BATCH])
        for tensor in spec.inputs:
            graph.input[tensor.name].dim.extend(_shape(tensor, dimensions, chosen))


def _warmup(spec: ModelSpec, dimensions: Dimensions, sizes: Mapping[str, int]) -> pb.ModelWarmup:
    """A batch of zeros that each instance runs before Triton calls it ready."""
    return pb.ModelWarmup(
        name="_".join(f"{name}{size}" for name, size in sizes.items()),
        batch_size=sizes[BATCH],
        inputs={
            tensor.name: pb.ModelWarmup.Input(
                data_type=f"TYPE_{tensor.dtype}", dims=_shape(tensor, dimensions, sizes), zero_data=True
            )
            for tensor in spec.inputs
        },
    )


def _shape(tensor: TensorSpec, dimensions: Dimensions, sizes: Mapping[str, int]) -> list[int]:
    """An item's shape with every symbol replaced."""
    return [
        sizes[str(symbol)] if symbol in VARYING else dim
        for symbol, dim in zip(tensor.shape, tensor.dims(dimensions), strict=True)
    ]


def _tensor(tensor: TensorSpec, dimensions: Dimensions) -> dict[str, object]:
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}", "dims": tensor.dims(dimensions)}
