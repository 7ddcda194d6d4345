import random

import numpy as np
import pytest
import torch

from export.contract.defects import BARE_BOARD
from training.crops import Crop
from training.prompts import corpus
from training.targets import IGNORED, assign, decoder_inputs, draw_generative_batch, draw_grounding_prompts
from training.tokenizer import train_tokenizer

SIZE, GRID = 256, 16
TOKENIZER = train_tokenizer(corpus(), 600)


def crop(*rows: tuple[float, float, float, float, int]) -> Crop:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Crop(np.zeros((SIZE, SIZE), np.uint8), table[:, :4], table[:, 4].astype(np.int64))


def test_assign_takes_the_tokens_in_the_central_quarter() -> None:
    found = assign([crop((0, 0, 64, 64, 3))], GRID, SIZE)  # its central quarter is 16..48: tokens 1 and 2
    assert sorted(found.token_ids.tolist()) == [17, 18, 33, 34]
    assert set(found.class_ids.tolist()) == {3}
    assert torch.allclose(found.boxes_xyxy, torch.tensor([0, 0, 0.25, 0.25]).repeat(4, 1))


def test_assign_gives_a_tiny_box_its_nearest_token() -> None:
    found = assign([crop(), crop((100, 40, 104, 44, 1))], GRID, SIZE)
    assert (found.image_ids.tolist(), found.token_ids.tolist()) == ([1], [2 * GRID + 6])


def test_assign_prefers_the_smaller_of_two_boxes() -> None:
    found = assign([crop((0, 0, 128, 128, 0), (48, 48, 80, 80, 1))], GRID, SIZE)
    owner = dict(zip(found.token_ids.tolist(), found.class_ids.tolist(), strict=True))
    assert owner[4 * GRID + 4] == 1
    assert owner[5 * GRID + 5] == 0


def test_assign_of_empty_crops_is_empty() -> None:
    assert assign([crop()], GRID, SIZE).boxes_xyxy.shape == (0, 4)


def test_grounding_prompts_ask_for_every_class_in_both_languages_and_for_absent_ones() -> None:
    prompts = draw_grounding_prompts(random.Random(0))
    asked = prompts.class_ids.tolist()
    assert all(asked.count(index) == 2 for index in range(len(BARE_BOARD)))
    assert any(index >= len(BARE_BOARD) for index in asked)
    assert any(not text.isascii() for text in prompts.texts)
    assert any(text.isascii() for text in prompts.texts)


def test_grounding_prompts_vary() -> None:
    rng = random.Random(0)
    assert len({text for _ in range(50) for text in draw_grounding_prompts(rng).texts}) > 200


@pytest.mark.parametrize("seed", range(5))
def test_generative_answers_are_closed_and_shifted_right(seed: int) -> None:
    crops = [crop((10, 10, 40, 40, 0), (60, 60, 90, 95, 2)), crop()]
    batch = draw_generative_batch(crops, SIZE, TOKENIZER, random.Random(seed))
    bos, eos, pad = (TOKENIZER.token_to_id(token) for token in ("<s>", "</s>", "<pad>"))
    inputs = decoder_inputs(batch.labels, TOKENIZER)
    for labels, given in zip(batch.labels.tolist(), inputs.tolist(), strict=True):
        ids = [label for label in labels if label != IGNORED]
        assert ids[0] == bos
        assert ids[-1] == eos
        assert given[: len(ids)] == [eos, *ids[:-1]]
        assert set(given[len(ids) + 1 :]) <= {pad}
        locations = [index for index in ids if index >= TOKENIZER.token_to_id("<loc_0>")]
        assert len(locations) % 4 == 0
