import random

import numpy as np
import pytest
import torch

from export.contract.defects import BARE_BOARD, Defect
from training.crop import Crop
from training.prompts import corpus
from training.targets import (
    IGNORED,
    MAX_CLASSES,
    GroundingPrompts,
    assign,
    decoder_inputs,
    draw_generative_batch,
    draw_grounding_prompts,
)
from training.tokenizer import train_tokenizer

SIZE, GRID = 256, 16
TOKENIZER = train_tokenizer(corpus(), 600)


def crop(*rows: tuple[float, float, float, float, int], texts: tuple[str, ...] = (), sparse: str = "") -> Crop:
    """A black crop with boxes; `texts` are the sentences of the first."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    descriptions = (texts,) + ((),) * (len(table) - 1) if len(table) else ()
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    return Crop(image, table[:, :4], table[:, 4].astype(np.int64), descriptions, (sparse,) if sparse else ())


def test_assign_takes_the_tokens_in_the_central_quarter() -> None:
    found = assign([crop((0, 0, 64, 64, 3))], GRID, SIZE)  # its central quarter is 16..48: tokens 1 and 2
    assert sorted(found.token_ids.tolist()) == [17, 18, 33, 34]
    assert set(found.class_ids.tolist()) == {3}
    assert torch.allclose(found.boxes_xyxy, torch.tensor([0, 0, 0.25, 0.25]).repeat(4, 1))


def test_assign_takes_nine_tokens_at_most() -> None:
    found = assign([crop((16, 16, 216, 216, 0))], GRID, SIZE)  # its centre, 116, lies in token 7, nearest to 6
    assert sorted(found.token_ids.tolist()) == [y * GRID + x for y in (6, 7, 8) for x in (6, 7, 8)]


def test_assign_gives_a_tiny_box_its_nearest_token() -> None:
    found = assign([crop(), crop((100, 40, 104, 44, 1))], GRID, SIZE)
    assert (found.image_ids.tolist(), found.token_ids.tolist()) == ([1], [2 * GRID + 6])


def test_assign_prefers_the_smaller_of_two_boxes() -> None:
    found = assign([crop((0, 0, 128, 128, 0), (48, 48, 80, 80, 1))], GRID, SIZE)
    owner = dict(zip(found.token_ids.tolist(), found.class_ids.tolist(), strict=True))
    assert owner[4 * GRID + 4] == 1
    assert owner[2 * GRID + 5] == 0


def test_assign_of_empty_crops_is_empty() -> None:
    assert assign([crop()], GRID, SIZE).boxes_xyxy.shape == (0, 4)


def test_grounding_prompts_ask_for_every_class_in_both_languages_and_for_absent_ones() -> None:
    prompts = draw_grounding_prompts(BARE_BOARD, [crop()], random.Random(0))
    assert all(prompts.asked.count(index) == 2 for index in range(len(BARE_BOARD)))
    assert any(isinstance(asked, int) and asked >= len(BARE_BOARD) for asked in prompts.asked)
    assert any(not text.isascii() for text in prompts.texts)
    assert any(text.isascii() for text in prompts.texts)


def test_grounding_prompts_of_many_classes_hold_those_that_are_shown() -> None:
    many = tuple(Defect(f"class_{index}", (f"class {index}",), (), (), ()) for index in range(40))
    for seed in range(5):
        prompts = draw_grounding_prompts(many, [crop((0, 0, 9, 9, 37), (0, 0, 9, 9, 3))], random.Random(seed))
        assert {37, 3} <= set(prompts.asked)
        assert len(prompts.texts) == 2 * MAX_CLASSES + 2


def test_grounding_prompts_hold_the_sentences_of_the_crops() -> None:
    crops = [crop((0, 0, 9, 9, 0), texts=("a black ring",)), crop(sparse="板边有划痕")]
    prompts = draw_grounding_prompts(BARE_BOARD, crops, random.Random(0))
    asked = [one for one in prompts.asked if isinstance(one, str)]
    assert sorted(asked) == ["a black ring", "板边有划痕"]
    assert all(sentence in prompts.texts[prompts.asked.index(sentence)] for sentence in asked)


def test_relevance_of_classes_and_sentences() -> None:
    crops = [
        crop((0, 0, 16, 16, 2), texts=("a black ring",)),
        crop((0, 0, 16, 16, 2), texts=("a brown spot",)),
        crop((0, 0, 16, 16, 2)),
        crop((0, 0, 16, 16, 4)),
    ]
    found = assign(crops, GRID, SIZE)
    answers, known = GroundingPrompts(["", "", ""], [2, 99, "a black ring"]).relevance(found)
    assert answers.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    # Nobody said whether the third, of the same class but without sentences, is a black ring.
    assert known.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]


def test_grounding_prompts_vary() -> None:
    rng = random.Random(0)
    texts = {text for _ in range(50) for text in draw_grounding_prompts(BARE_BOARD, [crop()], rng).texts}
    assert len(texts) > 200


def test_no_answer_is_learned_from_a_picture_whose_boxes_are_not_complete() -> None:
    crops = [crop((10, 10, 40, 40, 0)), crop(sparse="板边有划痕")]
    batch = draw_generative_batch(BARE_BOARD, crops, SIZE, TOKENIZER, random.Random(0))
    assert (batch.labels[1] == IGNORED).all()
    assert (batch.labels[0] != IGNORED).any()


@pytest.mark.parametrize("seed", range(5))
def test_generative_answers_are_closed_and_shifted_right(seed: int) -> None:
    crops = [crop((10, 10, 40, 40, 0), (60, 60, 90, 95, 2), texts=("a scratch",)), crop()]
    batch = draw_generative_batch(BARE_BOARD, crops, SIZE, TOKENIZER, random.Random(seed))
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
