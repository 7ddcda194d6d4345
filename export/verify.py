"""The gate: engines must give what PyTorch gives, output by output and box by box, before they are published.

Images are whole pictures, prompts are words; everything goes the way that it goes in service.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from export.checkpoint import Checkpoint
from export.contract.boxes import Detections, iou_matrix
from export.contract.defects import DEFECTS
from export.contract.tensors import DETECTOR, LENGTH_BUCKETS, PROMPT_BUCKETS, PROMPT_ENCODER, ModelSpec, bucket
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from export.onnx_graphs import wrap
from export.runtime.engine import Engine

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """What an engine of a precision may differ from PyTorch by."""

    max_error: float  # of any output value; all of them are of the order of 1
    min_cosine: float  # of each output as one vector
    batch_error: float  # of an item alone against the same item in a batch
    box_agreement: float  # least share of detections found again, IoU 0.9 and score within max_error


LIMITS = {"fp32": Limits(max_error=2e-3, min_cosine=0.99999, batch_error=1e-3, box_agreement=1.0)}
DETECTION_THRESHOLD = 0.05  # detections compared box by box


class GateError(RuntimeError):
    """An engine differs from PyTorch by more than its limits allow."""


def read_images(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The PNG and JPEG pictures of a folder as RGB arrays, by file name.

    Raises:
        GateError: there is none.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    if not paths:
        raise GateError(f"{folder} holds no PNG or JPEG picture to verify engines with; give another with --images")
    return {path.name: np.asarray(Image.open(path).convert("RGB")) for path in paths}


def verify(
    checkpoint: Checkpoint, engines: dict[str, Engine], images: dict[str, NDArray[np.uint8]], limits: Limits
) -> dict[str, Any]:
    """Compares engines with PyTorch; the report's `faults` is empty when they pass."""
    report: dict[str, Any] = {"limits": vars(limits), "images": list(images), "models": {}, "faults": []}
    tokens = _prompt_inputs(checkpoint)
    reference = _torch_runner(PROMPT_ENCODER, checkpoint)
    expected = reference(tokens)
    report["models"][PROMPT_ENCODER.name] = _compare(
        PROMPT_ENCODER, expected, engines[PROMPT_ENCODER.name], tokens, limits, report["faults"]
    )
    embeddings = expected["PROMPT_EMBEDDINGS"]
    prompts = np.zeros((bucket(len(embeddings), PROMPT_BUCKETS, "prompts"), embeddings.shape[1]), np.float32)
    prompts[: len(embeddings)] = embeddings
    detector = _torch_runner(DETECTOR, checkpoint)
    report["models"][DETECTOR.name] = {}
    for name, image in images.items():
        tile = checkpoint.dimensions.tile
        origins = tile_origins((image.shape[1], image.shape[0]), tile)
        tiles = cut_tiles(image, origins, tile)[: DETECTOR.max_batch_size]
        origins = origins[: len(tiles)]
        inputs = {"IMAGE": tiles, "PROMPT_EMBEDDINGS": np.repeat(prompts[None], len(tiles), axis=0)}
        expected = detector(inputs)
        engine = engines[DETECTOR.name]
        entry = _compare(DETECTOR, expected, engine, inputs, limits, report["faults"])
        wanted, got = (
            _detections(out, origins, image, tile, len(embeddings)) for out in (expected, engine.run(inputs))
        )
        entry["detections"] = len(wanted)
        entry["box_agreement"] = _agreement(wanted, got, limits.max_error)
        if entry["box_agreement"] < limits.box_agreement:
            report["faults"].append(
                f"{name}: {entry['box_agreement']:.3f} of the boxes agree, limit {limits.box_agreement}"
            )
        report["models"][DETECTOR.name][name] = entry
    return report


def _prompt_inputs(checkpoint: Checkpoint) -> Outputs:
    texts = [names[0] for defect in DEFECTS for names in (defect.names_en, defect.descriptions_zh)]
    encodings = [checkpoint.tokenizer.encode(text) for text in texts]
    length = bucket(max(len(encoding.ids) for encoding in encodings), LENGTH_BUCKETS, "tokens of a prompt")
    input_ids = np.full((len(texts), length), checkpoint.tokenizer.token_to_id("<pad>"), np.int64)
    attention_mask = np.zeros((len(texts), length), np.int64)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding.ids)] = encoding.ids
        attention_mask[row, : len(encoding.ids)] = 1
    return {"INPUT_IDS": input_ids, "ATTENTION_MASK": attention_mask}


def _torch_runner(spec: ModelSpec, checkpoint: Checkpoint) -> Callable[[Outputs], Outputs]:
    module = wrap(spec, checkpoint)

    @torch.inference_mode()
    def run(inputs: Outputs) -> Outputs:
        answers = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in spec.inputs))
        arrays = answers if isinstance(answers, tuple) else (answers,)
        return {tensor.name: array.numpy() for tensor, array in zip(spec.outputs, arrays, strict=True)}

    return run


def _compare(
    spec: ModelSpec, expected: Outputs, engine: Engine, inputs: Outputs, limits: Limits, faults: list[str]
) -> dict[str, Any]:
    batch = engine.run(inputs)
    broken = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if broken:
        faults.append(f"{spec.name}: {', '.join(broken)} holds NaN or infinity")
        return {"finite": False}
    first = {name: array[:1] for name, array in inputs.items()}
    expected_rows, batch_rows = _rows(spec, expected), _rows(spec, batch)
    single_rows = _rows(spec, engine.run(first))
    aligned = _align(expected_rows, batch_rows)
    alone = _align(batch_rows[:1], single_rows)
    entry = {
        "items": len(batch_rows),
        "max_error": float(np.abs(expected_rows - aligned).max()),
        "cosine": float(_cosine(expected_rows, aligned)),
        "batch_error": float(np.abs(batch_rows[:1] - alone).max()),
    }
    if entry["max_error"] > limits.max_error:
        faults.append(f"{spec.name}: largest error {entry['max_error']:.2e}, limit {limits.max_error:.0e}")
    if entry["cosine"] < limits.min_cosine:
        faults.append(f"{spec.name}: cosine {entry['cosine']:.6f}, limit {limits.min_cosine}")
    if entry["batch_error"] > limits.batch_error:
        faults.append(
            f"{spec.name}: an item differs by {entry['batch_error']:.2e} alone, limit {limits.batch_error:.0e}"
        )
    return entry


def _rows(spec: ModelSpec, outputs: Outputs) -> NDArray[np.float32]:
    """All outputs of an item side by side: (B, rows, values)."""
    arrays = [outputs[tensor.name].astype(np.float32) for tensor in spec.outputs]
    return np.concatenate([array if array.ndim == 3 else array[:, None] for array in arrays], axis=2)


def _align(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row of `got` nearest to each row of `wanted`: equal scores may leave the top-K in another order."""
    return np.stack(
        [b[np.abs(a[:, None] - b[None]).max(axis=2).argmin(axis=1)] for a, b in zip(wanted, got, strict=True)]
    )


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(np.dot(x, y)) / max(float(np.linalg.norm(x)) * float(np.linalg.norm(y)), 1e-30)


def _detections(
    outputs: Outputs, origins: NDArray[np.int64], image: NDArray[np.uint8], tile: int, num_prompts: int
) -> Detections:
    return merge_tiles(
        outputs["BOXES"],
        outputs["SCORES"][..., :num_prompts],
        origins,
        (image.shape[1], image.shape[0]),
        tile,
        score_threshold=DETECTION_THRESHOLD,
        nms_threshold=0.3,
        max_detections=1000,
    )


def _agreement(wanted: Detections, got: Detections, score_error: float) -> float:
    """Share of the detections on either side that the other side has too."""
    if not len(wanted) and not len(got):
        return 1.0
    same = (
        (iou_matrix(wanted.boxes_xyxy, got.boxes_xyxy) >= 0.9)
        & (wanted.class_ids[:, None] == got.class_ids[None])
        & (np.abs(wanted.scores[:, None] - got.scores[None]) <= score_error)
    )
    near_threshold = DETECTION_THRESHOLD + score_error  # may fall on either side of it
    sides: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]] = (
        (same.any(axis=1), wanted.scores),
        (same.any(axis=0), got.scores),
    )
    agreed = [
        bool(hit) or score < near_threshold for hits, scores in sides for hit, score in zip(hits, scores, strict=True)
    ]
    return float(np.mean(agreed))
