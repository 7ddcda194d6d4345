"""Several tokens a step: the graph, jumping forward over labels, and boxes read at once through learned slots."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.contract.locations import dequantise_outline
from export.contract.tensors import GENERATOR, STEP_TOKENS, graph_spec, graphs
from export.contract.tiles import cut_tiles
from export.gate.generator_parity import compare, greedy_tokens
from export.gate.verify import read_images
from export.graphs.checkpoint import load_checkpoint as load_for_export
from export.graphs.generator_graphs import read_vocabulary
from export.graphs.onnx_graphs import wrap, write_onnx
from export.runtime.engine import Arrays, Engine, OnnxRuntimeEngine
from export.runtime.generator import Generator
from tests.conftest import BOARD, CHECKPOINT
from training.network.checkpoint import load_checkpoint, save_checkpoint
from training.reading.generate import Answer, generate, generate_outlines

PROMPTS = ("open", "a much longer prompt that makes the other ones be padded", "找出断路")
TOLERANCES = (0, 60, 1000)  # bins: nothing that random weights draft stands, some of it, all of it


@pytest.fixture(scope="module")
def slotted(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with slots."""
    network, tokenizer, manifest = load_checkpoint(talkative)
    torch.manual_seed(1)  # slots whose drafts, where they stand, change what is read behind them
    network.add_box_slots()
    folder = tmp_path_factory.mktemp("checkpoint") / "slotted"
    save_checkpoint(folder, network, tokenizer, manifest, log="")
    return folder


class TorchEngine:
    """A graph as PyTorch runs it, before it is exported; `steps` are the shapes of the tokens that it was given."""

    def __init__(self, checkpoint: Path, graph: str) -> None:
        loaded = load_for_export(checkpoint)
        config: Any = loaded.network.config
        self.module = wrap(GENERATOR, loaded, graph)
        self.spec = graph_spec(GENERATOR, graph, config.text_config.decoder_layers)
        self.steps: list[tuple[int, ...]] = []

    @torch.inference_mode()
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.steps += [inputs["TOKENS"].shape] if "TOKENS" in inputs else []
        answer = self.module(*(torch.from_numpy(inputs[tensor.name]) for tensor in self.spec.inputs))
        outputs = answer if isinstance(answer, tuple) else (answer,)
        return {tensor.name: output.numpy() for tensor, output in zip(self.spec.outputs, outputs, strict=True)}


def engines(checkpoint: Path) -> list[TorchEngine]:
    return [TorchEngine(checkpoint, graph) for graph in graphs(GENERATOR)]


def pictures() -> NDArray[np.uint8]:
    """Three tiles: two of noise, a plain one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    return np.concatenate([noise, np.full((1, 128, 128, 3), 30, np.uint8)])


def inputs_of(checkpoint: Path, images: NDArray[np.uint8], prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
    return {"IMAGE": images, **load_for_export(checkpoint).prompt_inputs(prompts)}


def of_training(folder: Path, images: NDArray[np.uint8], prompts: Sequence[str], *, parallel: bool) -> list[Answer]:
    network, tokenizer, _ = load_checkpoint(folder)
    with torch.inference_mode():
        features = network.image_features(network.normalise(torch.from_numpy(images)))
    return generate(network, tokenizer, features, prompts, parallel=parallel)


def boxes_of(tokens: NDArray[np.int64], first_location: int) -> NDArray[np.int64]:
    """An answer's whole boxes (N, 4) in bins."""
    bins = tokens[(tokens >= first_location) & (tokens < first_location + 1000)] - first_location
    return bins[: len(bins) // 4 * 4].reshape(-1, 4)


def tolerate(monkeypatch: pytest.MonkeyPatch, bins: int) -> None:
    for module in ("export.runtime.answer", "export.gate.generator_parity", "training.reading.generate"):
        monkeypatch.setattr(f"{module}.DRAFT_TOLERANCE", bins)


def test_several_tokens_in_a_step_are_as_many_steps_of_one(slotted: Path) -> None:
    vision, encoder, decoder = engines(slotted)
    asked = inputs_of(slotted, pictures()[:2], PROMPTS[:2])
    features = vision.run({"IMAGE": asked["IMAGE"]})
    passed = encoder.run({**features, **asked})
    rng = np.random.default_rng(1)
    known = len(read_vocabulary(load_for_export(slotted)).token_ids)
    caches = {
        tensor.name: rng.normal(size=(2, *_dims(tensor.shape))).astype(np.float32)
        for tensor in decoder.spec.inputs
        if tensor.name.startswith("SELF")
    }
    tokens = np.array([[7, 500, known, known + 1], [300, known, 8, 9]])  # slots among them
    position, allowed = np.array([[5], [0]]), np.ones((2, 4, known), np.uint8)
    together = decoder.run({"TOKENS": tokens, "POSITION": position, "ALLOWED": allowed, **passed, **caches})
    for place in range(4):
        step = {"TOKENS": tokens[:, [place]], "POSITION": position + place, "ALLOWED": allowed[:, [place]]}
        alone = decoder.run({**step, **passed, **caches})
        np.testing.assert_array_equal(alone["NEXT"][:, 0], together["NEXT"][:, place])
        np.testing.assert_allclose(alone["LOG_PROB"][:, 0], together["LOG_PROB"][:, place], atol=1e-4)
        for row in range(2):
            column = position[row, 0] + place
            caches["SELF_KEYS_0"][row, :, :, column] = alone["NEW_KEYS_0"][row, :, :, 0]
            caches["SELF_VALUES_0"][row, :, column] = alone["NEW_VALUES_0"][row, :, 0]
        np.testing.assert_allclose(alone["NEW_KEYS_0"][..., 0], together["NEW_KEYS_0"][..., place], atol=1e-4)


def _dims(shape: Sequence[str | int]) -> list[int]:
    return [size if isinstance(size, int) else {"heads": 2, "head_width": 32}[size] for size in shape]


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_boxes_read_at_once_are_those_of_training_and_of_the_gate(
    slotted: Path, tolerance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tolerate(monkeypatch, tolerance)
    checkpoint = load_for_export(slotted)
    vocabulary = read_vocabulary(checkpoint)
    first = int(vocabulary.token_ids[vocabulary.first_location])
    inputs = inputs_of(slotted, pictures(), PROMPTS)
    parts = engines(slotted)
    outputs = Generator(*parts, vocabulary).run(inputs)
    np.testing.assert_array_equal(outputs["TOKENS"], greedy_tokens(checkpoint, inputs, parallel=True))
    for tokens, expected in zip(
        outputs["TOKENS"], of_training(slotted, pictures(), PROMPTS, parallel=True), strict=True
    ):
        np.testing.assert_allclose((boxes_of(tokens, first) + 0.5) / 1000, expected.boxes_xyxy, atol=1e-6)
    single = engines(slotted)
    alone = Generator(*single, vocabulary, step_tokens=1).run(inputs)
    if tolerance == 0:  # what falls back every time is what one token a step gives
        np.testing.assert_array_equal(alone["TOKENS"], outputs["TOKENS"])
        np.testing.assert_allclose(alone["LOG_PROBS"], outputs["LOG_PROBS"], atol=1e-4)
    if tolerance == 1000:
        assert len(parts[-1].steps) < len(single[-1].steps)
    assert max(size for _, size in parts[-1].steps) <= STEP_TOKENS


def test_outlines_are_those_of_training_and_of_the_gate_among_other_answers(slotted: Path) -> None:
    """Each region's outline, whatever else is asked in the same batch and however many tokens a step there may be."""
    checkpoint = load_for_export(slotted)
    vocabulary = read_vocabulary(checkpoint)
    first = int(vocabulary.token_ids[vocabulary.first_location])
    bins = np.array([[100, 200, 500, 600], [0, 0, 999, 999]])
    regions = ["".join(f"<loc_{location}>" for location in region) for region in bins]
    prompts = (regions[0], "open", f"outline {regions[1]}")
    inputs = inputs_of(slotted, pictures(), prompts)
    outputs = Generator(*engines(slotted), vocabulary).run(inputs)
    np.testing.assert_array_equal(outputs["TOKENS"], greedy_tokens(checkpoint, inputs, parallel=True))
    alone = Generator(*engines(slotted), vocabulary, step_tokens=1).run(inputs)
    for row in (0, 2):
        np.testing.assert_array_equal(alone["TOKENS"][row], outputs["TOKENS"][row])
    network, tokenizer, _ = load_checkpoint(slotted)
    with torch.inference_mode():
        features = network.image_features(network.normalise(torch.from_numpy(pictures()[:1])))
    (expected,) = generate_outlines(network, tokenizer, features, (bins[:1] + 0.5) / 1000)
    written = outputs["TOKENS"][0]
    written = written[(written >= first) & (written < first + 1000)] - first
    assert 3 <= len(expected) <= 16
    np.testing.assert_allclose(dequantise_outline(written.reshape(-1, 2), bins[0]), expected, atol=1e-6)


def test_outlines_are_followed_knowing_what_stands_before(slotted: Path) -> None:
    checkpoint = load_for_export(slotted)
    prompts = ("<loc_100><loc_200><loc_500><loc_600>", "open", "<loc_1><loc_2><loc_3><loc_4>")
    inputs = inputs_of(slotted, pictures(), prompts)
    one_by_one = greedy_tokens(checkpoint, inputs)
    followed = Generator(*engines(slotted), read_vocabulary(checkpoint)).follow(inputs, one_by_one)
    np.testing.assert_array_equal(followed, one_by_one)


def test_slots_survive_saving_and_export(slotted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tolerate(monkeypatch, 1000)
    checkpoint = load_for_export(slotted)
    parts: list[Engine] = []
    for graph in graphs(GENERATOR):
        write_onnx(GENERATOR, checkpoint, tmp_path / f"{graph}.onnx", graph)
        parts.append(OnnxRuntimeEngine(tmp_path / f"{graph}.onnx", 1))
    generator = Generator(*parts, read_vocabulary(checkpoint))
    entry = compare(checkpoint, generator, {"tile": pictures()[0], "plain": pictures()[2]}, PROMPTS)
    assert entry["same_answers"] == entry["token_agreement"] == 1.0, entry["first_difference"]


def test_labels_jumped_over_change_no_answer() -> None:
    """The shipped checkpoint, which has labels to guess; the answers of some tiles hold several boxes."""
    checkpoint = load_for_export(CHECKPOINT)
    board = read_images(BOARD.parent)[BOARD.name]
    tiles = cut_tiles(board, np.array([[0, 0], [384, 384]]), 256)
    inputs = inputs_of(CHECKPOINT, np.repeat(tiles, 2, axis=0), ("find all defects", "locate short circuit") * 2)
    vocabulary = dataclasses.replace(read_vocabulary(checkpoint), slots=0)  # no boxes read at once, whose drafts might
    several, single = engines(CHECKPOINT), engines(CHECKPOINT)
    jumped = Generator(*several, vocabulary).run(inputs)
    walked = Generator(*single, vocabulary, step_tokens=1).run(inputs)
    np.testing.assert_array_equal(jumped["TOKENS"], walked["TOKENS"])
    np.testing.assert_allclose(jumped["LOG_PROBS"], walked["LOG_PROBS"], atol=1e-3)
    assert len(several[-1].steps) < len(single[-1].steps)


def test_a_checkpoint_without_slots_reads_one_location_a_step(tiny_checkpoint: Path) -> None:
    assert read_vocabulary(load_for_export(tiny_checkpoint)).slots == 0
    at_once = of_training(tiny_checkpoint, pictures(), PROMPTS, parallel=True)
    one_by_one = of_training(tiny_checkpoint, pictures(), PROMPTS, parallel=False)
    for one, other in zip(at_once, one_by_one, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)
