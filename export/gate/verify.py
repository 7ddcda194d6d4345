"""The gate: engines must give what PyTorch gives, output by output and box by box, before they are published.

Images are whole pictures, prompts are words; everything goes the way that it goes in service. On labelled pictures
mAP@0.5 must not fall. Engines that are not handed over, such as the generator's in a comparison of detectors, are
not judged. Where an engine is tuned for sizes one by one, as a TensorRT plan is, it is run in each of them.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from export.boards.average_precision import MAX_DETECTIONS, average_precision
from export.boards.labelled import Boards, read_picture
from export.contract.boxes import Detections
from export.contract.defects import DEFECTS
from export.contract.tensors import (
    DETECTOR,
    GENERATOR,
    PROMPT_BUCKETS,
    PROMPT_ENCODER,
    ModelSpec,
    bucket,
)
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from export.gate import generator_parity
from export.gate.comparison import Outputs, agreement, align, cosine, rows
from export.gate.limits import Limits
from export.gate.tuned import Size, Sizes, label, sized
from export.graphs.checkpoint import Checkpoint
from export.graphs.onnx_graphs import wrap
from export.runtime.engine import Arrays, Engine
from export.runtime.generator import Generator

DETECTION_THRESHOLD = 0.05  # detections compared box by box
LABELLED_THRESHOLD = 0.01  # lower: average precision looks at the whole curve
NMS_THRESHOLD = 0.3
MIN_REFERENCE_MAP = 0.05  # below it PyTorch finds next to nothing, and an engine that finds nothing loses nothing
NAMED = 5  # pictures in a message
GENERATOR_PROMPTS = ("find all defects", "定位短路")
REGION_PROMPT = "<loc_250><loc_250><loc_750><loc_750>"  # answered by an outline, where the checkpoint has learned any

Run = Callable[[Arrays], Outputs]


class GateError(RuntimeError):
    """An engine differs from PyTorch by more than its limits allow, or cannot be judged."""


def read_images(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The PNG and JPEG pictures of a folder as RGB arrays, by file name.

    Raises:
        GateError: there is none.
        LabelledError: one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    if not paths:
        raise GateError(f"{folder} holds no PNG or JPEG picture to verify engines with; give another with --images")
    return {path.name: read_picture(path) for path in paths}


@dataclass(frozen=True)
class Reference:
    """What PyTorch answers, for engines of one checkpoint to be compared with; the slow parts are kept."""

    checkpoint: Checkpoint
    labelled: Boards | None = None

    @cached_property
    def tokens(self) -> Outputs:
        """The prompt encoder's inputs for the catalog's classes in both languages."""
        return self.checkpoint.prompt_inputs(
            [text for defect in DEFECTS for text in (defect.names_en[0], defect.descriptions_zh[0])]
        )

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """Of those prompts (P, D)."""
        return self.run(PROMPT_ENCODER)(self.tokens)["PROMPT_EMBEDDINGS"]

    @cached_property
    def map50(self) -> float:
        """mAP@0.5 of PyTorch on the labelled pictures, 0..1.

        Raises:
            GateError: it is below MIN_REFERENCE_MAP, so that no engine could be seen to find less.
        """
        map50 = judge(self, self.run(DETECTOR), "PyTorch on labelled pictures")
        if self.labelled is not None and not map50 >= MIN_REFERENCE_MAP:
            raise GateError(_unjudgeable(self.labelled, map50))
        return map50

    def run(self, spec: ModelSpec) -> Run:
        """The network as a model's engine would be called."""
        module = wrap(spec, self.checkpoint)

        @torch.inference_mode()
        def run(inputs: Arrays) -> Outputs:
            answers = module(*(torch.from_numpy(np.array(inputs[tensor.name])) for tensor in spec.inputs))
            arrays = answers if isinstance(answers, tuple) else (answers,)
            return {tensor.name: array.numpy() for tensor, array in zip(spec.outputs, arrays, strict=True)}

        return run


def verify(
    checkpoint: Checkpoint,
    engines: dict[str, Engine],
    images: dict[str, NDArray[np.uint8]],
    limits: Limits,
    reference: Reference | None = None,
    tuned: Sizes | None = None,
) -> dict[str, Any]:
    """Compares engines with PyTorch; the report's `faults` is empty when they pass.

    Without a `reference` of labelled pictures mAP is not judged, and the report's `map50` says so. `tuned` are the
    sizes, by model, that engines are run in besides; the report has them under `tuned` of the model.

    Raises:
        GateError: PyTorch itself finds next to nothing on the labelled pictures.
    """
    reference, tuned = reference or Reference(checkpoint), tuned or {}
    report: dict[str, Any] = {"limits": vars(limits), "images": list(images), "models": {}, "faults": []}
    if PROMPT_ENCODER.name in engines:
        engine = engines[PROMPT_ENCODER.name]
        report["models"][PROMPT_ENCODER.name] = entry = _compare(
            PROMPT_ENCODER, reference.run(PROMPT_ENCODER), engine, reference.tokens, limits, report["faults"]
        )
        if sizes := tuned.get(PROMPT_ENCODER.name):
            entry["tuned"] = _compare_tuned(
                PROMPT_ENCODER, reference, engine, reference.tokens, sizes, limits, report["faults"]
            )
    if DETECTOR.name in engines:
        engine = engines[DETECTOR.name]
        report["models"][DETECTOR.name] = {
            name: _compare_picture(name, image, reference, engine, limits, report["faults"])
            for name, image in images.items()
        }
        if all(_is_comparable(entry) for entry in report["models"][DETECTOR.name].values()):
            report["map50"] = _compare_map(reference, engine, limits, report["faults"])
        else:
            report["map50"] = {"judged": False, "reason": "the outputs are of a wrong shape or not finite"}
        if sizes := tuned.get(DETECTOR.name):
            _, inputs = _picture_inputs(next(iter(images.values())), reference)
            report["models"][DETECTOR.name]["tuned"] = _compare_tuned(
                DETECTOR, reference, engine, inputs, sizes, limits, report["faults"]
            )
    if GENERATOR.name in engines:
        generator = cast(Generator, engines[GENERATOR.name])
        prompts = (*GENERATOR_PROMPTS, REGION_PROMPT) if checkpoint.outlines else GENERATOR_PROMPTS
        entry = generator_parity.compare(checkpoint, generator, images, prompts)
        report["models"][GENERATOR.name] = entry
        if not entry["finite"]:
            report["faults"].append("generator: a log-probability is NaN or infinite")
        if (
            not entry["token_agreement"] >= limits.token_agreement
            or limits.token_agreement == 1 > entry["same_answers"]
        ):
            report["faults"].append(
                f"generator: {entry['token_agreement']:.3f} of the tokens agree, limit {limits.token_agreement}, and "
                f"{entry['same_answers']:.3f} of the answers; the first that differs: {entry['first_difference']}"
            )
        if sizes := tuned.get(GENERATOR.name):
            entry["tuned"] = generator_parity.compare_tuned(checkpoint, generator, images, GENERATOR_PROMPTS, sizes)
            report["faults"] += [
                f"generator, {name}: {share:.3f} of the tokens agree, limit {limits.token_agreement}"
                for name, share in entry["tuned"].items()
                if not share >= limits.token_agreement
            ]
    return report


def padded(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prompt embeddings (P, D), filled up with zeros to a bucket of prompts."""
    prompts = np.zeros((bucket(len(embeddings), PROMPT_BUCKETS, "prompts"), embeddings.shape[1]), np.float32)
    prompts[: len(embeddings)] = embeddings
    return prompts


def judge(reference: Reference, run: Run, what: str) -> float:
    """mAP@0.5 (0..1) of a detector on the reference's labelled pictures, each class asked for by its English name."""
    boards = reference.labelled
    if boards is None:
        raise ValueError("the reference has no labelled pictures to judge a detector on")
    words = reference.checkpoint.prompt_inputs(boards.class_names)
    prompts = padded(reference.run(PROMPT_ENCODER)(words)["PROMPT_EMBEDDINGS"])
    tile, classes = reference.checkpoint.dimensions.tile, len(boards.class_names)
    found = []
    for board in tqdm(boards.boards, desc=what, unit="image", file=sys.stderr, leave=False, disable=None):
        image = read_picture(board.path)
        origins = tile_origins((image.shape[1], image.shape[0]), tile)
        tiles = cut_tiles(image, origins, tile)
        parts = [
            tiles[start : start + DETECTOR.max_batch_size] for start in range(0, len(tiles), DETECTOR.max_batch_size)
        ]
        answers = [
            run({"IMAGE": part, "PROMPT_EMBEDDINGS": np.repeat(prompts[None], len(part), axis=0)}) for part in parts
        ]
        outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        found.append(_detections(outputs, origins, image, tile, classes, LABELLED_THRESHOLD))
    return average_precision(boards, found)


def _compare_map(reference: Reference, engine: Engine, limits: Limits, faults: list[str]) -> dict[str, Any]:
    if reference.labelled is None:
        return {"judged": False, "reason": "no labelled pictures were given"}
    engine_map = judge(reference, engine.run, "engine on labelled pictures")
    drop = reference.map50 - engine_map
    if not drop <= limits.max_map_drop:
        faults.append(
            f"detector: mAP@0.5 is {engine_map:.4f}, PyTorch's {reference.map50:.4f}: {drop:.4f} down, "
            f"limit {limits.max_map_drop}"
        )
    return {
        "judged": True,
        "images": len(reference.labelled.boards),
        "pytorch": reference.map50,
        "engine": engine_map,
        "drop": drop,
    }


def _unjudgeable(boards: Boards, map50: float) -> str:
    pictures = ", ".join(str(board.path) for board in boards.boards[:NAMED])
    return (
        f"detector: PyTorch's own mAP@0.5 is {map50:.4f} on the {len(boards.boards)} labelled pictures, expected at "
        f"least {MIN_REFERENCE_MAP}: no engine could be seen to find less. Among the pictures are {pictures}, the "
        f"classes are {', '.join(boards.class_names)}; give pictures of what the checkpoint was trained on, and call "
        "the classes what it knows them by"
    )


def _compare_picture(
    name: str, image: NDArray[np.uint8], reference: Reference, engine: Engine, limits: Limits, faults: list[str]
) -> dict[str, Any]:
    origins, inputs = _picture_inputs(image, reference)
    run = reference.run(DETECTOR)
    entry = _compare(DETECTOR, run, engine, inputs, limits, faults)
    if not _is_comparable(entry):
        return entry
    wanted, got = (
        _detections(
            out,
            origins,
            image,
            reference.checkpoint.dimensions.tile,
            len(reference.embeddings),
            DETECTION_THRESHOLD,
        )
        for out in (run(inputs), engine.run(inputs))
    )
    entry["detections"] = len(wanted)
    entry["box_agreement"] = agreement(wanted, got, limits.max_error, DETECTION_THRESHOLD)
    if not entry["box_agreement"] >= limits.box_agreement:
        faults.append(f"{name}: {entry['box_agreement']:.3f} of the boxes agree, limit {limits.box_agreement}")
    return entry


def _picture_inputs(image: NDArray[np.uint8], reference: Reference) -> tuple[NDArray[np.int64], Outputs]:
    """Where a picture's first tiles lie, one batch of them, and the detector's inputs for them."""
    tile = reference.checkpoint.dimensions.tile
    origins = tile_origins((image.shape[1], image.shape[0]), tile)[: DETECTOR.max_batch_size]
    tiles = cut_tiles(image, origins, tile)
    prompts = padded(reference.embeddings)
    return origins, {"IMAGE": tiles, "PROMPT_EMBEDDINGS": np.repeat(prompts[None], len(tiles), axis=0)}


def _compare_tuned(
    spec: ModelSpec,
    reference: Reference,
    engine: Engine,
    inputs: Outputs,
    sizes: Sequence[Size],
    limits: Limits,
    faults: list[str],
) -> dict[str, Any]:
    run = reference.run(spec)
    entries = {}
    for size in sizes:
        found: list[str] = []
        entries[label(size)] = _compare(spec, run, engine, sized(spec, inputs, size), limits, found)
        faults += [f"{label(size)}: {fault}" for fault in found]
    return entries


def _compare(
    spec: ModelSpec, run: Run, engine: Engine, inputs: Outputs, limits: Limits, faults: list[str]
) -> dict[str, Any]:
    batch, single = engine.run(inputs), engine.run({name: array[:1] for name, array in inputs.items()})
    broken = [name for name in batch if not all(np.isfinite(outputs[name]).all() for outputs in (batch, single))]
    if broken:
        faults.append(f"{spec.name}: {', '.join(broken)} holds NaN or infinity")
        return {"finite": False}
    expected = run(inputs)
    wrong = [
        f"{name} is {outputs[name].shape}, expected {array[:count].shape}"
        for name, array in expected.items()
        for outputs, count in ((batch, len(array)), (single, 1))
        if outputs[name].shape != array[:count].shape
    ]
    if wrong:
        faults.append(f"{spec.name}: {'; '.join(wrong)}")
        return {"shapes": False}
    expected_rows, batch_rows = rows(spec.outputs, expected), rows(spec.outputs, batch)
    aligned = align(expected_rows, batch_rows)
    alone = align(batch_rows[:1], rows(spec.outputs, single))
    entry = {
        "items": len(batch_rows),
        "max_error": float(np.abs(expected_rows - aligned).max()),
        "cosine": cosine(expected_rows, aligned),
        "batch_error": float(np.abs(batch_rows[:1] - alone).max()),
    }
    if not entry["max_error"] <= limits.max_error:
        faults.append(f"{spec.name}: largest error {entry['max_error']:.2e}, limit {limits.max_error:.0e}")
    if not entry["cosine"] >= limits.min_cosine:
        faults.append(f"{spec.name}: cosine {entry['cosine']:.6f}, limit {limits.min_cosine}")
    if not entry["batch_error"] <= limits.batch_error:
        faults.append(
            f"{spec.name}: an item differs by {entry['batch_error']:.2e} alone, limit {limits.batch_error:.0e}"
        )
    return entry


def _is_comparable(entry: dict[str, Any]) -> bool:
    """Whether `_compare` found outputs of the right shape, all finite: what boxes can be read from."""
    return "cosine" in entry


def _detections(
    outputs: Outputs,
    origins: NDArray[np.int64],
    image: NDArray[np.uint8],
    tile: int,
    num_prompts: int,
    score_threshold: float,
) -> Detections:
    return merge_tiles(
        outputs["BOXES"],
        outputs["SCORES"][..., :num_prompts],
        origins,
        (image.shape[1], image.shape[0]),
        tile,
        score_threshold=score_threshold,
        nms_threshold=NMS_THRESHOLD,
        max_detections=MAX_DETECTIONS,
    )
