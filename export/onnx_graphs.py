"""The network as ONNX graphs, one per Triton model, named and shaped by the contract."""

from pathlib import Path

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from export.checkpoint import Checkpoint
from export.contract.tensors import (
    DETECTOR,
    LENGTH_BUCKETS,
    NUMPY_DTYPES,
    PROMPT_BUCKETS,
    PROMPT_ENCODER,
    VARYING,
    Dimensions,
    ModelSpec,
    TensorSpec,
)

OPSET = 18
SAMPLE = {"prompts": PROMPT_BUCKETS[0], "length": LENGTH_BUCKETS[0]}
SAMPLE_BATCH = 2  # with 1 the exporter takes the batch for a constant


class Detector(nn.Module):
    """IMAGE, PROMPT_EMBEDDINGS -> BOXES, SCORES."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, prompt_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """See `Florence2ForGrounding.detect`."""
        boxes, scores = self.network.detect(image, prompt_embeddings)  # type: ignore[operator]
        return boxes, scores


class PromptEncoder(nn.Module):
    """INPUT_IDS, ATTENTION_MASK -> PROMPT_EMBEDDINGS."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See `Florence2ForGrounding.encode_prompts`."""
        embeddings: Tensor = self.network.encode_prompts(input_ids, attention_mask)  # type: ignore[operator]
        return embeddings


WRAPPERS: dict[str, type[nn.Module]] = {DETECTOR.name: Detector, PROMPT_ENCODER.name: PromptEncoder}


def wrap(spec: ModelSpec, checkpoint: Checkpoint) -> nn.Module:
    """The PyTorch module of a Triton model, in evaluation mode: the reference that engines are compared with."""
    return WRAPPERS[spec.name](checkpoint.network).eval()


def write_onnx(spec: ModelSpec, checkpoint: Checkpoint, path: Path) -> None:
    """Exports one Triton model's graph, simplified and checked, with the checkpoint's hash in its metadata."""
    samples = tuple(_sample(tensor, checkpoint.dimensions) for tensor in spec.inputs)
    varying = [_varying(tensor) for tensor in spec.inputs]
    program = torch.onnx.export(
        wrap(spec, checkpoint),
        samples,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        dynamic_shapes=tuple(varying),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned nothing for {spec.name}")
    model = onnxslim.slim(program.model_proto)
    model.metadata_props.add(key="checkpoint_sha256", value=checkpoint.sha256)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _sample(tensor: TensorSpec, dimensions: Dimensions) -> Tensor:
    dims = [
        SAMPLE[symbol] if symbol in VARYING else dim
        for symbol, dim in zip(tensor.shape, tensor.dims(dimensions), strict=True)
    ]
    array = torch.ones([SAMPLE_BATCH, *dims])
    return array.to(getattr(torch, NUMPY_DTYPES[tensor.dtype].__name__))


def _varying(tensor: TensorSpec) -> dict[int, torch.export.Dim]:
    dims = {0: torch.export.Dim("batch")}
    return dims | {
        axis + 1: torch.export.Dim(str(symbol)) for axis, symbol in enumerate(tensor.shape) if symbol in VARYING
    }
