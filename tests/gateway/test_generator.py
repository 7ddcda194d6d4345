"""The tokens that the generator writes, read as boxes, and whether it is there; test_overlay.py has its way through."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from export.contract.tensors import DETECTOR, GENERATOR, ModelSpec
from export.server import TritonServer
from gateway.errors import UnavailableError
from gateway.models.generator import read_boxes
from gateway.models.triton import Triton
from gateway.up import free_port
from tests.conftest import REPOSITORY

FIRST = 1000  # the id of <loc_0>
PAD, EOS, WORD = 1, 2, 50


def read(*tokens: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    ids, probabilities = zip(*tokens, strict=True)
    return read_boxes(np.array(ids), np.log(np.array(probabilities, np.float32)), FIRST)


def test_a_box_is_its_four_locations_and_its_score_their_mean_times_the_labels() -> None:
    box = [(FIRST + location, 0.25) for location in (100, 200, 300, 400)]
    boxes, scores = read((WORD, 0.5), (WORD, 0.8), *box, (EOS, 0.9), (PAD, 1.0))
    np.testing.assert_allclose(boxes, [[0.1005, 0.2005, 0.3005, 0.4005]], rtol=1e-6)
    assert scores.tolist() == pytest.approx([0.5 * 0.8 * 0.25])


def test_each_box_has_its_own_label() -> None:
    box = [(FIRST + location, 1.0) for location in (0, 0, 999, 999)]
    boxes, scores = read((WORD, 0.5), *box, (WORD, 0.25), *box, (EOS, 0.1))
    assert scores.tolist() == pytest.approx([0.5, 0.25])
    assert ((boxes > 0) & (boxes < 1)).all()


def test_an_answer_that_was_cut_off_gives_the_boxes_that_are_whole() -> None:
    box = [(FIRST + location, 1.0) for location in (10, 20, 30, 40)]
    boxes, scores = read((WORD, 0.5), *box, (WORD, 0.25), *box[:3])
    assert (len(boxes), len(scores)) == (1, 1)


def test_nothing_found_is_no_box() -> None:
    boxes, scores = read((EOS, 0.9), (PAD, 1.0))
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


def serves(url: str, spec: ModelSpec, version: str) -> bool:
    async def ask() -> bool:
        connection = Triton(url)
        try:
            return await connection.serves(spec, version)
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_model_is_served_in_its_versions_and_as_the_contract_states_it(triton: TritonServer) -> None:
    version = max((folder.name for folder in (REPOSITORY / GENERATOR.name).glob("[0-9]*")), key=int)
    assert serves(triton.grpc_url, GENERATOR, version)
    assert not serves(triton.grpc_url, GENERATOR, "9999")
    assert not serves(triton.grpc_url, replace(GENERATOR, name="absent"), version)
    assert not serves(triton.grpc_url, replace(GENERATOR, name=DETECTOR.name), version)


def test_whether_a_model_is_served_is_unknown_while_triton_is_away() -> None:
    with pytest.raises(UnavailableError):
        serves(f"127.0.0.1:{free_port()}", GENERATOR, "1")
