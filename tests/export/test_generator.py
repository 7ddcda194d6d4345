"""The generative reading: engines against training's own decoding, the batch against its items, through Triton."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from export.contract.locations import NUM_BINS, SCORE_WINDOW
from export.contract.tensors import (
    GENERATED_TOKENS,
    GENERATOR,
    LENGTH_BUCKETS,
    STEP_BUCKETS,
    bucket,
    graph_spec,
    graphs,
)
from export.gate.generator_parity import compare, compare_tuned
from export.gate.limits import read_limits
from export.gate.verify import read_images, verify
from export.graphs.checkpoint import CheckpointError
from export.graphs.checkpoint import load_checkpoint as load_for_export
from export.graphs.generator_graphs import read_vocabulary
from export.graphs.onnx_graphs import wrap, write_onnx
from export.repository import MODEL_PY
from export.runtime.engine import Arrays, Engine, load_engine
from export.runtime.error import EngineError
from export.runtime.generator import Generator, load_generator
from export.runtime.grammar import Vocabulary
from export.tensorrt.profiles import batch_buckets, tuned_sizes
from export.triton.config import render_config
from tests.conftest import BOARD, CHECKPOINT, embedded_triton
from training.network.checkpoint import load_checkpoint
from training.reading.generate import Answer, _parse, generate

PROMPTS = ("open", "a much longer prompt that makes the other ones be padded", "找出断路")


@pytest.fixture(scope="module")
def exported(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the engines of each target."""
    checkpoint = load_for_export(talkative)
    out = tmp_path_factory.mktemp("generator")
    for target in ("onnxruntime", "openvino"):
        (out / target).mkdir()
        read_vocabulary(checkpoint).save(out / target)
    for graph in graphs(GENERATOR):
        path = out / "onnxruntime" / f"{graph}.onnx"
        write_onnx(GENERATOR, checkpoint, path, graph)
        model = openvino.convert_model(path)
        openvino.save_model(model, out / "openvino" / f"{graph}.xml", compress_to_fp16=False)
    return out


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def generator(request: pytest.FixtureRequest, exported: Path) -> Generator:
    return load_generator(exported / request.param)


def images(tile: int) -> NDArray[np.uint8]:
    """Three tiles: two of noise, a plain one."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [rng.integers(0, 256, (2, tile, tile, 3), dtype=np.uint8), np.full((1, tile, tile, 3), 30, np.uint8)]
    )


def inputs_of(checkpoint: Path, pictures: NDArray[np.uint8], prompts: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Each prompt about the picture in the same place."""
    encodings = load_for_export(checkpoint).tokenizer.encode_batch(list(prompts))
    length = bucket(max(len(encoding.ids) for encoding in encodings), LENGTH_BUCKETS, "tokens")
    rows = [encoding.ids + [1] * (length - len(encoding.ids)) for encoding in encodings]
    mask = [[1] * len(encoding.ids) + [0] * (length - len(encoding.ids)) for encoding in encodings]
    return {"IMAGE": pictures, "INPUT_IDS": np.array(rows), "ATTENTION_MASK": np.array(mask)}


def take(inputs: Arrays, rows: slice) -> dict[str, NDArray[Any]]:
    return {name: array[rows] for name, array in inputs.items()}


class TorchEngine:
    """A graph as PyTorch runs it, before it is exported."""

    def __init__(self, checkpoint: Path, graph: str) -> None:
        loaded = load_for_export(checkpoint)
        self.module = wrap(GENERATOR, loaded, graph)
        self.spec = graph_spec(GENERATOR, graph, len(loaded.network.model.language_model.decoder.layers))  # type: ignore[union-attr, arg-type]

    @torch.inference_mode()
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        tensors = [torch.from_numpy(inputs[tensor.name]) for tensor in self.spec.inputs]
        answer = self.module(*tensors)
        outputs = answer if isinstance(answer, tuple) else (answer,)
        return {tensor.name: output.numpy() for tensor, output in zip(self.spec.outputs, outputs, strict=True)}


def answers_of_training(folder: Path, pictures: NDArray[np.uint8], prompts: tuple[str, ...]) -> list[Answer]:
    network, tokenizer, _ = load_checkpoint(folder)
    with torch.inference_mode():
        features = network.image_features(network.normalise(torch.from_numpy(pictures)))
    return generate(network, tokenizer, features, prompts)


def parsed(folder: Path, outputs: Arrays) -> list[Answer]:
    """The model's tokens read as training reads its own."""
    network, tokenizer, _ = load_checkpoint(folder)
    return [
        _parse(list(zip(tokens.tolist(), np.exp(logs).tolist(), strict=True)), network, tokenizer)
        for tokens, logs in zip(outputs["TOKENS"], outputs["LOG_PROBS"], strict=True)
    ]


def assert_same(got: list[Answer], expected: list[Answer]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.labels == other.labels
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        # Where a vocabulary ends with <loc_999>, training counts it once more for each bin that its window lacks.
        inner = (one.boxes_xyxy < 1 - SCORE_WINDOW / NUM_BINS).all(axis=1)
        np.testing.assert_allclose(one.scores[inner], other.scores[inner], rtol=1e-3)


def test_generator_answers_what_training_answers(generator: Generator, talkative: Path) -> None:
    pictures = images(128)
    outputs = generator.run(inputs_of(talkative, pictures, PROMPTS))
    expected = answers_of_training(talkative, pictures, PROMPTS)
    assert_same(parsed(talkative, outputs), expected)
    assert sum((answer.boxes_xyxy < 0.99).all(axis=1).sum() for answer in expected) > 1
    lengths = (outputs["TOKENS"] != 1).sum(1)
    assert lengths.min() < lengths.max() == GENERATED_TOKENS  # one ends, one is cut at the capacity


def test_generator_answers_of_a_batch_are_those_of_its_items(generator: Generator, talkative: Path) -> None:
    inputs = inputs_of(talkative, images(128), PROMPTS)
    together = generator.run(inputs)
    for row in range(len(PROMPTS)):
        alone = generator.run(take(inputs, slice(row, row + 1)))
        np.testing.assert_array_equal(together["TOKENS"][row], alone["TOKENS"][0])
        np.testing.assert_allclose(together["LOG_PROBS"][row], alone["LOG_PROBS"][0], atol=1e-3)


def test_generator_answers_do_not_depend_on_the_padding(generator: Generator, talkative: Path) -> None:
    inputs = inputs_of(talkative, images(128)[:1], PROMPTS[:1])
    short, long = LENGTH_BUCKETS
    padding = ((0, 0), (0, long - short))
    padded = {
        "IMAGE": inputs["IMAGE"],
        "INPUT_IDS": np.pad(inputs["INPUT_IDS"], padding, constant_values=1),
        "ATTENTION_MASK": np.pad(inputs["ATTENTION_MASK"], padding),
    }
    np.testing.assert_array_equal(generator.run(inputs)["TOKENS"], generator.run(padded)["TOKENS"])


def test_generator_gives_nothing_behind_the_end(generator: Generator, talkative: Path) -> None:
    outputs = generator.run(inputs_of(talkative, images(128), PROMPTS))
    for tokens, logs in zip(outputs["TOKENS"], outputs["LOG_PROBS"], strict=True):
        ended = np.flatnonzero(tokens == 2)
        if len(ended):
            assert (tokens[ended[0] + 1 :] == 1).all()
            assert (logs[ended[0] + 1 :] == 0).all()
    assert (outputs["LOG_PROBS"] <= 1e-6).all()


def test_generator_stops_at_max_tokens(exported: Path, talkative: Path) -> None:
    folder = exported / "onnxruntime"
    engines = [load_engine(folder, graph) for graph in graphs(GENERATOR)]
    inputs = inputs_of(talkative, images(128), PROMPTS)
    few = Generator(*engines, Vocabulary.load(folder), max_tokens=5).run(inputs)["TOKENS"]
    np.testing.assert_array_equal(few[:, :5], load_generator(folder).run(inputs)["TOKENS"][:, :5])
    assert (few[:, 5:] == 1).all()


def test_compare_finds_engines_and_pytorch_in_agreement(generator: Generator, talkative: Path) -> None:
    pictures = {f"tile {index}": tile for index, tile in enumerate(images(128))}
    entry = compare(load_for_export(talkative), generator, pictures, PROMPTS)
    assert entry["answers"] == 9
    assert entry["finite"]
    assert entry["same_answers"] == entry["token_agreement"] == 1.0, entry["first_difference"]


class Mistaken:
    """A decoder that says another token than its engine at one place of the second answer."""

    def __init__(self, engine: Engine, place: int) -> None:
        self.engine, self.place = engine, place

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        outputs = self.engine.run(inputs)
        columns = self.place - inputs["POSITION"][1:2, 0]  # of the second answer, while it is in the batch
        if all(0 <= column < outputs["NEXT"].shape[1] for column in columns):
            outputs["NEXT"][1:2, columns] += 1
        return outputs


def test_compare_names_the_first_token_that_differs_and_counts_it_once(exported: Path, talkative: Path) -> None:
    folder = exported / "onnxruntime"
    vision, encoder, decoder = (load_engine(folder, graph) for graph in graphs(GENERATOR))
    generator = Generator(vision, encoder, Mistaken(decoder, place=3), Vocabulary.load(folder))
    entry = compare(load_for_export(talkative), generator, {"tile": images(128)[0]}, PROMPTS)
    difference = entry["first_difference"]
    assert (difference["image"], difference["prompt"], difference["place"]) == ("tile", PROMPTS[1], 2)
    assert difference["got"] == difference["expected"] + 1
    assert entry["same_answers"] == pytest.approx(2 / 3)
    assert entry["token_agreement"] == pytest.approx(1 - 1 / entry["tokens"])


class Counted:
    """An engine that takes note of how many items it was asked about."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.items = engine, 0

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.items += len(next(iter(inputs.values())))
        return self.engine.run(inputs)


def test_generator_sees_an_image_once_however_many_prompts_are_about_it(exported: Path, talkative: Path) -> None:
    folder = exported / "onnxruntime"
    vision, encoder, decoder = (load_engine(folder, graph) for graph in graphs(GENERATOR))
    counted = Counted(vision)
    generator = Generator(counted, encoder, decoder, Vocabulary.load(folder))
    inputs = inputs_of(talkative, images(128)[[2, 0, 2]], PROMPTS)
    together = generator.run(inputs)
    assert counted.items == 2
    for row in range(len(PROMPTS)):
        alone = generator.run(take(inputs, slice(row, row + 1)))
        np.testing.assert_array_equal(together["TOKENS"][row], alone["TOKENS"][0])


def test_load_generator_names_the_missing_engine(exported: Path, tmp_path: Path) -> None:
    for name in ("vision.onnx", "encoder.onnx"):
        (tmp_path / name).write_bytes((exported / "onnxruntime" / name).read_bytes())
    with pytest.raises(EngineError, match=r"decoder\.onnx"):
        load_generator(tmp_path)


@pytest.mark.parametrize("graph", graphs(GENERATOR))
def test_engine_has_the_tensors_of_the_contract(exported: Path, graph: str) -> None:
    import onnx

    model = onnx.load(exported / "onnxruntime" / f"{graph}.onnx")
    stated = graph_spec(GENERATOR, graph, layers=1)
    assert [value.name for value in model.graph.input] == [tensor.name for tensor in stated.inputs]
    assert [value.name for value in model.graph.output] == [tensor.name for tensor in stated.outputs]


def test_decoder_of_a_checkpoint_with_too_few_positions_is_refused(talkative: Path) -> None:
    checkpoint = load_for_export(talkative)
    decoder: Any = checkpoint.network.model.language_model.decoder  # type: ignore[union-attr]
    decoder.embed_positions = type(decoder.embed_positions)(100, 64)
    with pytest.raises(CheckpointError, match="max_position_embeddings is 100"):
        wrap(GENERATOR, checkpoint, "decoder")


def test_the_shipped_checkpoints_graphs_answer_what_training_answers() -> None:
    generator = Generator(
        *(TorchEngine(CHECKPOINT, graph) for graph in graphs(GENERATOR)),
        read_vocabulary(load_for_export(CHECKPOINT)),
    )
    board = read_images(BOARD.parent)[BOARD.name]
    pictures = np.stack([board[:256, :256], board[:256, :256], board[-256:, -256:]])
    prompts = ("find all defects", "找出所有的缺陷，包括断路和短路", "mousebite")
    outputs = generator.run(inputs_of(CHECKPOINT, pictures, prompts))
    assert_same(parsed(CHECKPOINT, outputs), answers_of_training(CHECKPOINT, pictures, prompts))
    assert len(set((outputs["TOKENS"] != 1).sum(1))) > 1


def test_triton_answers_what_the_generator_answers(exported: Path, talkative: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / GENERATOR.name / "1"
    folder.mkdir(parents=True)
    for path in (exported / "openvino").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "model.py").write_text(MODEL_PY)
    (folder.parent / "config.pbtxt").write_text(
        render_config(GENERATOR, load_for_export(talkative).dimensions, {}, "onnxruntime")
    )
    inputs = inputs_of(talkative, images(128), PROMPTS)
    expected = load_generator(folder).run(inputs)

    def ask(row: int) -> dict[str, NDArray[Any]]:
        tensors = []
        for tensor in GENERATOR.inputs:
            array = inputs[tensor.name][row : row + 1]
            tensors.append(InferInput(tensor.name, list(array.shape), tensor.dtype))
            tensors[-1].set_data_from_numpy(array)
        with InferenceServerClient(server.grpc_url) as client:
            result = client.infer(GENERATOR.name, tensors)
        return {tensor.name: result.as_numpy(tensor.name) for tensor in GENERATOR.outputs}

    with embedded_triton(tmp_path / "models") as server, ThreadPoolExecutor(len(PROMPTS)) as pool:
        answers = list(pool.map(ask, range(len(PROMPTS))))
    for row, answer in enumerate(answers):
        np.testing.assert_array_equal(answer["TOKENS"][0], expected["TOKENS"][row])
        np.testing.assert_allclose(answer["LOG_PROBS"][0], expected["LOG_PROBS"][row], atol=1e-3)


class Seen:
    """An engine that notes the shapes of an input."""

    def __init__(self, engine: Engine, name: str, shapes: set[tuple[int, ...]]) -> None:
        self.engine, self.name, self.shapes = engine, name, shapes

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.shapes.add(inputs[self.name].shape)
        return self.engine.run(inputs)


def test_the_gate_runs_every_engine_in_every_size_that_it_is_tuned_for(exported: Path, talkative: Path) -> None:
    checkpoint = load_for_export(talkative)
    shapes: dict[str, set[tuple[int, ...]]] = {"IMAGE": set(), "INPUT_IDS": set(), "TOKENS": set()}
    names = iter(shapes)

    def load(folder: Path, graph: str) -> Engine:
        name = next(names)
        return Seen(load_engine(folder, graph), name, shapes[name])

    generator = load_generator(exported / "onnxruntime", load)
    shares = compare_tuned(checkpoint, generator, read_images(BOARD.parent), PROMPTS, tuned_sizes(GENERATOR))
    assert set(shares.values()) == {1.0}
    batches = batch_buckets(GENERATOR.max_batch_size)
    assert {batch for batch, *_ in shapes["IMAGE"]} == set(batches)
    assert shapes["INPUT_IDS"] == set(itertools.product(batches, LENGTH_BUCKETS))
    assert shapes["TOKENS"] >= set(itertools.product(batches, STEP_BUCKETS))


def test_the_gate_names_the_size_in_which_a_generator_goes_wrong(exported: Path, talkative: Path) -> None:
    class Wrong(Seen):
        def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
            answer = super().run(inputs)
            is_wrong = inputs["TOKENS"].shape == (4, 8)
            return answer | {"NEXT": answer["NEXT"] * 0} if is_wrong else answer

    def load(folder: Path, graph: str) -> Engine:
        engine = load_engine(folder, graph)
        return Wrong(engine, "TOKENS", set()) if graph == "decoder" else engine

    checkpoint, limits = load_for_export(talkative), read_limits()["bf16"]
    generator = load_generator(exported / "onnxruntime", load)
    sizes = [{"batch": 4, "length": LENGTH_BUCKETS[0]}]
    engines: dict[str, Any] = {GENERATOR.name: generator}
    report = verify(checkpoint, engines, read_images(BOARD.parent), limits, tuned={GENERATOR.name: sizes})
    named = [fault for fault in report["faults"] if fault.startswith("generator, batch")]
    assert [fault.partition(":")[0] for fault in named] == ["generator, batch 4, length 32, step 8"]
