"""The shipped engines are the shipped checkpoint's, and nobody else's."""

import json

import numpy as np
import pytest

from export.contract.files import sha256_of
from export.contract.tensors import DETECTOR, GENERATOR, MODELS
from export.contract.versions import versions
from export.gate.limits import read_limits
from export.gate.verify import read_images, verify
from export.graphs.checkpoint import load_checkpoint
from export.runtime.engine import load_engine
from export.runtime.generator import load_generator
from tests.conftest import BOARD, CHECKPOINT, REPOSITORY


def test_the_manifests_name_the_shipped_checkpoint_and_the_shipped_files() -> None:
    weights = sha256_of(CHECKPOINT / "model.safetensors")
    for spec in MODELS:
        assert versions(REPOSITORY, spec.name), spec.name
        for number in versions(REPOSITORY, spec.name):
            folder = REPOSITORY / spec.name / str(number)
            manifest = json.loads((folder / "manifest.json").read_text())
            assert manifest["checkpoint_sha256"] == weights
            assert manifest["files"] == {name: sha256_of(folder / name) for name in manifest["files"]}
        assert weights in (REPOSITORY / spec.name / "config.pbtxt").read_text()


def test_the_engines_compute_what_the_checkpoint_computes() -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    newest = {spec.name: REPOSITORY / spec.name / str(versions(REPOSITORY, spec.name)[-1]) for spec in MODELS}
    precision = json.loads((newest[DETECTOR.name] / "manifest.json").read_text())["precision"]
    engines = {
        name: load_generator(folder) if name == GENERATOR.name else load_engine(folder)
        for name, folder in newest.items()
    }
    report = verify(checkpoint, engines, read_images(BOARD.parent), read_limits()[precision])
    assert not report["faults"]
    assert report["models"]["detector"][BOARD.name]["detections"] > 0


def test_the_gateway_gets_the_checkpoints_own_tokenizer() -> None:
    served = REPOSITORY / "prompt_encoder" / str(versions(REPOSITORY, "prompt_encoder")[-1]) / "tokenizer.json"
    assert served.read_bytes() == (CHECKPOINT / "tokenizer.json").read_bytes()


def test_the_checkpoint_is_small_and_its_weights_are_halves() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 20e6


@pytest.mark.parametrize("pair", [("open circuit", "断路"), ("find all shorts", "定位所有的短路区域")])
def test_two_ways_of_asking_for_a_class_mean_nearly_the_same(pair: tuple[str, str]) -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    engine = load_engine(REPOSITORY / "prompt_encoder" / str(versions(REPOSITORY, "prompt_encoder")[-1]))

    def embedding(text: str) -> np.ndarray:
        ids = checkpoint.tokenizer.encode(text).ids
        input_ids = np.full((1, 32), checkpoint.tokenizer.token_to_id("<pad>"), np.int64)
        input_ids[0, : len(ids)] = ids
        mask = (np.arange(32) < len(ids)).astype(np.int64)[None]
        return engine.run({"INPUT_IDS": input_ids, "ATTENTION_MASK": mask})["PROMPT_EMBEDDINGS"][0]

    one, other, stranger = (embedding(text) for text in (*pair, "毛刺"))
    assert one @ other > one @ stranger + 0.1
