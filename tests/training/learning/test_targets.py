import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from export.contract.defects import BARE_BOARD, Defect
from export.contract.locations import dequantise_outline
from export.contract.tensors import GENERATED_TOKENS, LENGTH_BUCKETS
from training.crops.crop import Crop
from training.crops.view import draw_view
from training.data.outline import UNKNOWN, Polygon
from training.learning.sentences import Sentences
from training.learning.targets import (
    CONTRAST,
    IGNORED,
    MAX_CLASSES,
    GroundingPrompts,
    assign,
    decoder_inputs,
    draw_generative_batch,
    draw_grounding_prompts,
)
from training.network.regions import regions_of
from training.network.tokenizer import encode_batch, train_tokenizer
from training.prompts import corpus, words

SIZE, GRID = 256, 16
TOKENIZER = train_tokenizer(corpus(), 600)
FIRST_LOCATION = TOKENIZER.token_to_id("<loc_0>")


def crop(*rows: tuple[float, float, float, float, int], texts: tuple[str, ...] = (), sparse: str = "") -> Crop:
    """A black crop with boxes; `texts` are the sentences of the first."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    descriptions = (texts,) + ((),) * (len(table) - 1) if len(table) else ()
    image, outlines = np.zeros((SIZE, SIZE, 3), np.uint8), (UNKNOWN,) * len(table)
    return Crop(image, table[:, :4], table[:, 4].astype(np.int64), descriptions, outlines, (sparse,) if sparse else ())


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


@pytest.mark.parametrize(("size_balance", "counts"), [(0.0, [1.0, 3.0]), (0.5, [1.0, 3**0.5]), (1.0, [1.0, 1.0])])
def test_assign_weighs_a_defect_by_its_own_tokens(size_balance: float, counts: list[float]) -> None:
    """The larger one would have four, and the smaller takes one of them."""
    found = assign([crop((0, 0, 64, 64, 0), (20, 20, 28, 28, 1))], GRID, SIZE, size_balance)
    assert [float(found.weights[found.class_ids == 1 - index].sum()) for index in (0, 1)] == pytest.approx(counts)


def test_assign_gives_two_defects_at_one_place_the_tokens_of_one() -> None:
    found = assign([crop((0, 0, 64, 64, 0), (0, 0, 64, 64, 1))], GRID, SIZE, 0.5)
    assert sorted(found.token_ids.tolist()) == [17, 18, 33, 34]
    assert found.weights.tolist() == pytest.approx([0.5] * 4)


def test_assign_of_empty_crops_is_empty() -> None:
    found = assign([crop()], GRID, SIZE, 0.5)
    assert (found.boxes_xyxy.shape, found.weights.shape) == ((0, 4), (0,))


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
    answers, counts = GroundingPrompts(["", "", ""], [2, 99, "a black ring"]).relevance(found)
    assert answers.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    # The second is nearly a black ring. Nobody said whether the third, of the same class but without sentences, is.
    assert counts.tolist() == [[1, 1, 1], [1, 1, CONTRAST], [1, 1, 0], [1, 1, 1]]


def test_a_token_is_not_taught_to_be_without_a_defect_that_got_none_because_of_its_own() -> None:
    ring = ("a black ring",)
    crops = [
        crop((0, 0, 64, 64, 0), (1, 1, 63, 63, 1), texts=ring),  # the second takes all tokens of the first
        crop((0, 0, 128, 128, 0), (40, 40, 56, 56, 1), texts=ring),  # and one of nine
    ]
    found = assign(crops, GRID, SIZE)
    asked = [0, 1, 2, "a black ring", "a dull joint"]
    prompts = GroundingPrompts([""] * len(asked), asked, said={"a dull joint": frozenset({0})})
    answers, counts = prompts.relevance(found)
    both, small = ((found.image_ids == index) & (found.class_ids == 1) for index in (0, 1))
    assert answers[both].tolist() == [[0, 1, 0, 0, 0]] * 4
    assert counts[both].tolist() == [[0, 1, 1, 0, 0]] * 4
    assert counts[small].tolist() == [[1, 1, 1, 1, 1]]


def test_a_sentence_that_describes_a_whole_class_holds_for_all_of_it() -> None:
    own = Defect("joint", ("joint",), (), ("a dull joint",), ())
    crops = [
        crop((0, 0, 16, 16, 0), texts=("cracked along the pin",)),
        crop((0, 0, 16, 16, 0)),
        crop((0, 0, 16, 16, 1)),
        crop(sparse="a dull joint"),
    ]
    prompts = draw_grounding_prompts([own, BARE_BOARD[0]], crops, random.Random(0))
    answers, counts = prompts.relevance(assign(crops, GRID, SIZE))
    column = prompts.asked.index("a dull joint")
    assert answers[:, column].tolist() == [1, 1, 0]
    assert counts[:, column].tolist() == [1, 1, 1]


def test_nothing_is_known_of_a_sparse_sentence_and_a_defect_without_sentences() -> None:
    crops = [
        crop((0, 0, 16, 16, 2), texts=("a black ring",)),
        crop((0, 0, 16, 16, 2)),
        crop(sparse="a scratch along the edge"),
    ]
    prompts = draw_grounding_prompts(BARE_BOARD, crops, random.Random(0))
    answers, counts = prompts.relevance(assign(crops, GRID, SIZE))
    column = prompts.asked.index("a scratch along the edge")
    assert not answers[:, column].any()
    assert counts[:, column].tolist() == [1, 0]


def test_a_class_by_a_plants_own_name_is_not_taught_to_be_no_known_defect() -> None:
    own = Defect("划伤", (), ("划伤",), (), ())  # 划痕, which is known, by another name
    crops = [crop((0, 0, 16, 16, 0)), crop((0, 0, 16, 16, 1))]
    found = assign(crops, GRID, SIZE)
    prompts = draw_grounding_prompts([own, BARE_BOARD[0]], crops, random.Random(0))
    _, counts = prompts.relevance(found)
    absent = [column for column, asked in enumerate(prompts.asked) if asked >= 2]
    assert absent
    assert counts[:, absent].tolist() == [[0] * len(absent), [1] * len(absent)]
    for seed in range(50):  # nor is it answered that there is none, whatever is asked
        (labels,) = draw_generative_batch([own], crops[:1], SIZE, TOKENIZER, random.Random(seed)).labels.tolist()
        assert any(label >= FIRST_LOCATION for label in labels)


def test_grounding_prompts_ask_for_what_is_like_a_sentence_and_in_no_crop() -> None:
    known = Sentences({text: frozenset({2}) for text in ("a black ring", "a brown ring", "焊点旁的黑色圆环")})
    shown = crop((0, 0, 16, 16, 2), (0, 0, 16, 16, 4), texts=("a black ring",))
    prompts = draw_grounding_prompts(BARE_BOARD, [shown, crop((0, 0, 16, 16, 2))], random.Random(0), known=known)
    asked = [one for one in prompts.asked if isinstance(one, str)]
    assert sorted(asked) == ["a black ring", "a brown ring"]
    found = assign([shown, crop((0, 0, 16, 16, 2))], GRID, SIZE)
    answers, counts = prompts.relevance(found)
    column = prompts.asked.index("a brown ring")
    assert not answers[:, column].any()
    # Of the second ring, without sentences, nothing is known.
    assert sorted(zip(found.class_ids.tolist(), counts[:, column].tolist(), strict=True)) == sorted(
        (class_id, 1.0 if class_id != 2 else CONTRAST if texts else 0.0)
        for class_id, texts in zip(found.class_ids.tolist(), found.descriptions, strict=True)
    )


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


def test_a_known_defect_under_another_name_is_not_taken_for_absent() -> None:
    own = (Defect("Open_Circuit", ("Open_Circuit",), (), (), ()), *BARE_BOARD[1:])
    opens = {*words(BARE_BOARD[0], "en"), *words(BARE_BOARD[0], "zh")} - {"open circuit"}
    for seed in range(20):
        prompts = draw_grounding_prompts(own, [crop()], random.Random(seed))
        absent = [text for text, asked in zip(prompts.texts, prompts.asked, strict=True) if asked >= len(own)]
        assert not any(word in text for text in absent for word in opens if len(word) > 6)


def test_an_answer_that_is_longer_than_the_service_reads_is_cut_between_boxes_and_has_no_end() -> None:
    crowded = crop(
        *((8 * n, 8, 8 * n + 6, 14, 0) for n in range(30)), *((8 * n, 50, 8 * n + 6, 60, 0) for n in range(30))
    )
    eos = TOKENIZER.token_to_id("</s>")
    lengths = set()
    for seed in range(20):
        (labels,) = draw_generative_batch(BARE_BOARD, [crowded], SIZE, TOKENIZER, random.Random(seed)).labels.tolist()
        located = [label for label in labels if label >= FIRST_LOCATION]
        if located:
            assert len(located) % 4 == 0
            assert eos not in labels
            lengths.add(len(labels))
    assert lengths
    assert max(lengths) <= GENERATED_TOKENS


def test_a_prompt_is_cut_where_the_service_takes_no_more() -> None:
    long = crop((0, 0, 16, 16, 2), texts=("a ring " * 60,))
    for seed in range(20):
        batch = draw_generative_batch(BARE_BOARD, [long], SIZE, TOKENIZER, random.Random(seed))
        assert batch.input_ids.shape[1] <= LENGTH_BUCKETS[-1]


def outlined(*outlines: Polygon) -> Crop:
    boxes = [
        (*outline.min(axis=0), *outline.max(axis=0), 0) if len(outline) else (9, 9, 90, 90, 0) for outline in outlines
    ]
    return replace(crop(*boxes), outlines=outlines)


def test_an_outline_is_asked_for_by_a_region_and_answered_by_its_points() -> None:
    triangle = np.array([[64, 192], [64, 64], [192, 64]], np.float32)
    crops = [outlined(triangle), outlined(UNKNOWN)]
    views = [draw_view(each, random.Random(0)) for each in crops]
    assert views[1] is None  # its outline is not known
    batch = draw_generative_batch(BARE_BOARD, crops, SIZE, TOKENIZER, random.Random(0), views=views)
    outlined_rows, (region,) = regions_of(batch.input_ids, FIRST_LOCATION)
    assert outlined_rows.tolist() == [True, False]
    region = region.numpy() - FIRST_LOCATION
    assert 0 < np.abs(region - [250, 250, 750, 750]).max() <= 0.08 * 500 + 1  # as if it were found
    bos, eos = (TOKENIZER.token_to_id(token) for token in ("<s>", "</s>"))
    ids = [label for label in batch.labels[0].tolist() if label != IGNORED]
    assert (ids[0], ids[-1]) == (bos, eos)
    written = np.array(ids[1:-1]) - FIRST_LOCATION
    np.testing.assert_array_equal(written[:4], region)
    points = dequantise_outline(written[4:].reshape(-1, 2), region)
    np.testing.assert_allclose(points, [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]], atol=0.05)


def test_a_region_is_four_locations_with_words_or_without() -> None:
    texts = [
        "outline <loc_1><loc_2><loc_3><loc_4>",
        "<loc_5><loc_6><loc_7>",
        "find open",
        "<loc_7><loc_8><loc_9><loc_0>",
    ]
    input_ids, _ = encode_batch(TOKENIZER, texts)
    outlined_rows, regions = regions_of(input_ids, FIRST_LOCATION)
    assert outlined_rows.tolist() == [True, False, False, True]
    assert (regions - FIRST_LOCATION).tolist() == [[1, 2, 3, 4], [7, 8, 9, 0]]
