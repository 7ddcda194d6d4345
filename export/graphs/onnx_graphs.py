"""The network as ONNX graphs, one per Triton model, three for the generator, named and shaped by the contract."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from export.contract.tensors import (
    BATCH,
    DETECTOR,
    GENERATOR,
    LENGTH_BUCKETS,
    NUMPY_DTYPES,
    PROMPT_BUCKETS,
    PROMPT_ENCODER,
    VARYING,
    GraphSpec,
    ModelSpec,
    TensorSpec,
    graph_spec,
)
from export.graphs.checkpoint import Checkpoint
from export.graphs.generator_graphs import GeneratorDecoder, GeneratorEncoder, GeneratorVision, read_vocabulary

OPSET = 18
# Of what this folder makes of a checkpoint, by the manifest's `export_format`. Raise it when an older version's graphs
# should be built anew from the same weights: --skip-existing sees nothing else of this code.
EXPORT_FORMAT = 1
SAMPLE = {"prompts": PROMPT_BUCKETS[0], "length": LENGTH_BUCKETS[0], "encoded": LENGTH_BUCKETS[0], "step": 3}
SAMPLE_BATCH = 2  # with 1 the exporter takes the batch for a constant


class Detector(nn.Module):
    """IMAGE, PROMPT_EMBEDDINGS -> BOXES, SCORES."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = checkpoint.network

    def forward(self, image: Tensor, prompt_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """See `Florence2ForGrounding.detect`."""
        boxes, scores = self.network.detect(image, prompt_embeddings)  # type: ignore[operator]
        return boxes, scores


class PromptEncoder(nn.Module):
    """INPUT_IDS, ATTENTION_MASK -> PROMPT_EMBEDDINGS."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = checkpoint.network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See `Florence2ForGrounding.encode_prompts`."""
        embeddings: Tensor = self.network.encode_prompts(input_ids, attention_mask)  # type: ignore[operator]
        return embeddings


class Flat(nn.Module):
    """A module whose tensors come as one tuple: so the exporter takes any number of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the module gives."""
        answer: Tensor | tuple[Tensor, ...] = self.module(*tensors)
        return answer


WRAPPERS: dict[tuple[str, str], Callable[[Checkpoint], nn.Module]] = {
    (DETECTOR.name, "model"): Detector,
    (PROMPT_ENCODER.name, "model"): PromptEncoder,
    (GENERATOR.name, "vision"): GeneratorVision,
    (GENERATOR.name, "encoder"): GeneratorEncoder,
    (GENERATOR.name, "decoder"): GeneratorDecoder,
}


def wrap(spec: ModelSpec, checkpoint: Checkpoint, graph: str = "model") -> nn.Module:
    """The PyTorch module of a Triton model's graph, in evaluation mode: the reference that engines are compared with.

    Raises:
        CheckpointError: the checkpoint cannot generate.
    """
    return WRAPPERS[spec.name, graph](checkpoint).eval()


def tensors_of(spec: ModelSpec, checkpoint: Checkpoint, graph: str = "model") -> GraphSpec:
    """The tensors of a Triton model's graph for a checkpoint's number of decoder layers."""
    config: Any = checkpoint.network.config
    return graph_spec(spec, graph, config.text_config.decoder_layers)


def write_onnx(spec: ModelSpec, checkpoint: Checkpoint, path: Path, graph: str = "model") -> None:
    """Exports one graph of a Triton model, simplified and checked, with the checkpoint's hash in its metadata.

    Raises:
        CheckpointError: the checkpoint cannot generate.
    """
    stated = tensors_of(spec, checkpoint, graph)
    sizes = SAMPLE | sizes_of(checkpoint)
    program = torch.onnx.export(
        Flat(wrap(spec, checkpoint, graph)).eval(),
        tuple(_sample(tensor, sizes) for tensor in stated.inputs),
        input_names=[tensor.name for tensor in stated.inputs],
        output_names=[tensor.name for tensor in stated.outputs],
        dynamic_shapes=(tuple(_varying(tensor) for tensor in stated.inputs),),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned nothing for {spec.name}, {graph}")
    model = onnxslim.slim(program.model_proto)
    model.metadata_props.add(key="checkpoint_sha256", value=checkpoint.sha256)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def sizes_of(checkpoint: Checkpoint) -> dict[str, int]:
    """The sizes of the contract's symbols that a checkpoint fixes, those within the generator among them."""
    config: Any = checkpoint.network.config
    text = config.text_config
    return {
        **vars(checkpoint.dimensions),
        "heads": text.decoder_attention_heads,
        "head_width": text.d_model // text.decoder_attention_heads,
        "image_tokens": image_tokens(checkpoint),
        "vocabulary": len(read_vocabulary(checkpoint).token_ids),
    }


def image_tokens(checkpoint: Checkpoint) -> int:
    """Tokens of a tile."""
    network: Any = checkpoint.network
    tile = checkpoint.dimensions.tile
    with torch.inference_mode():
        return int(network.image_features(network.normalise(torch.zeros(1, tile, tile, 3, dtype=torch.uint8))).shape[1])


def _sample(tensor: TensorSpec, sizes: Mapping[str, int]) -> Tensor:
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
    array = torch.ones([SAMPLE_BATCH, *dims])
    return array.to(getattr(torch, NUMPY_DTYPES[tensor.dtype].__name__))


def _varying(tensor: TensorSpec) -> dict[int, torch.export.Dim]:
    dims = {0: torch.export.Dim(BATCH)}
    return dims | {
        axis + 1: torch.export.Dim(str(symbol)) for axis, symbol in enumerate(tensor.shape) if symbol in VARYING
    }
