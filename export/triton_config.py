"""config.pbtxt of each Triton model, from the contract, through Triton's own protobuf."""

from collections.abc import Mapping

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.contract.tensors import INSTANCES, QUEUE_DELAY_MICROSECONDS, Dimensions, ModelSpec, TensorSpec

QUEUE_TIMEOUT_MICROSECONDS = 10_000_000  # a request that waited this long is of no use to a line any more
MAX_QUEUE_SIZE = 256  # requests; more are rejected at once


def render_config(spec: ModelSpec, dimensions: Dimensions, parameters: Mapping[str, str]) -> str:
    """The text of config.pbtxt for a model of Triton's Python backend on CPU instances."""
    config = pb.ModelConfig(
        name=spec.name,
        backend="python",
        max_batch_size=spec.max_batch_size,
        input=[pb.ModelInput(**_tensor(tensor, dimensions)) for tensor in spec.inputs],
        output=[pb.ModelOutput(**_tensor(tensor, dimensions)) for tensor in spec.outputs],
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU, count=INSTANCES)],
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
    return str(text_format.MessageToString(config))


def _tensor(tensor: TensorSpec, dimensions: Dimensions) -> dict[str, object]:
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}", "dims": tensor.dims(dimensions)}
