"""One answer under way, against a decoder that is a list: what it reads behind each input."""

import numpy as np
import pytest

from export.runtime.answer import Answer
from export.runtime.grammar import Grammar, Vocabulary

FIRST = 10  # <loc_0>
SLOTS = [1010, 1011]
VOCABULARY = Vocabulary(
    token_ids=np.arange(1010), bos=0, pad=1, eos=2, start=2, first_location=FIRST, slots=2, labels=((5,), (6, 7, 8))
)


def answer(slots: int = 2, step_tokens: int = 8, max_tokens: int = 160, region: tuple[int, ...] = ()) -> Answer:
    vocabulary = Vocabulary(**{**vars(VOCABULARY), "slots": slots})
    return Answer(vocabulary, Grammar(vocabulary, 1), max_tokens, step_tokens, region)


def step(under_way: Answer, fed: list[int], following: list[int]) -> int:
    """Expects these inputs, has the decoder read these tokens behind them, and returns how many are kept."""
    assert under_way.inputs()[0] == fed
    return under_way.take(following, [-0.5] * len(following))


def test_the_rest_of_a_label_is_fed_with_its_first_token_and_a_box_is_read_at_once() -> None:
    own = answer()
    assert step(own, [2, 0], [9, 6]) == 2
    assert step(own, [6, 7, 8], [7, 8, FIRST]) == 3
    assert step(own, [FIRST, *SLOTS], [20, 30, 40]) == 1
    assert step(own, [20, 30, 40], [31, 38, 6]) == 3  # near the drafts
    assert step(own, [6, 7, 8], [7, 8, FIRST + 500]) == 3
    assert own.tokens == [6, 7, 8, FIRST, 20, 31, 38, 6, 7, 8, FIRST + 500]
    assert step(own, [FIRST + 500, *SLOTS], [600, 700, 800]) == 1
    assert step(own, [600, 700, 800, 6, 7, 8], [700, 800, 6, 7, 8, FIRST]) == 6  # the same label once more
    assert step(own, [FIRST, *SLOTS], [20, 30, 40]) == 1
    assert step(own, [20, 30, 40, 6, 7, 8], [30, 40, 2, 9, 9, 9]) == 3  # no further box
    assert own.done
    assert own.tokens[-5:] == [FIRST, 20, 30, 40, 2]
    assert own.position == 2 + len(own.tokens) - 1
    assert own.log_probs == [-0.5] * len(own.tokens)


@pytest.mark.parametrize(("x2", "y2", "kept", "tokens"), [(37, 40, 1, [37]), (36, 47, 2, [36, 47])])
def test_a_draft_that_is_not_what_is_read_falls_back_to_one_location_a_step(
    x2: int, y2: int, kept: int, tokens: list[int]
) -> None:
    own = answer()
    step(own, [2, 0], [9, 5])
    step(own, [5], [FIRST])
    step(own, [FIRST, *SLOTS], [20, 30, 40])
    assert step(own, [20, 30, 40], [x2, y2, 5]) == kept
    assert own.tokens == [5, FIRST, 20, *tokens]
    if x2 == 37:
        assert step(own, [37], [77]) == 1
    assert step(own, [own.tokens[-1]], [5]) == 1
    assert own.position == 2 + len(own.tokens) - 1


def test_a_label_that_is_not_the_one_guessed_is_read_token_by_token() -> None:
    own = answer(slots=0)
    step(own, [2, 0], [9, 6])
    assert step(own, [6, 7, 8], [9, 8, FIRST]) == 1
    assert step(own, [9], [FIRST]) == 1  # of no known label
    for location in (20, 30, 40):
        step(own, [own.tokens[-1]], [location])
    assert step(own, [40], [5]) == 1
    assert step(own, [5], [FIRST]) == 1
    for location in (20, 30, 40):
        step(own, [own.tokens[-1]], [location])
    assert step(own, [40, 5], [6, FIRST]) == 1
    assert own.tokens == [6, 9, FIRST, 20, 30, 40, 5, FIRST, 20, 30, 40, 6]


def test_nothing_is_guessed_with_one_token_a_step() -> None:
    own = answer(step_tokens=1)
    read = [6, 7, 8, FIRST, 20, 30, 40, 6]
    step(own, [2, 0], [9, read[0]])
    for token, behind in zip(read, [*read[1:], 7], strict=True):
        assert step(own, [token], [behind]) == 1
    assert own.tokens == [*read, 7]


def test_an_answer_is_no_longer_than_it_may_be() -> None:
    own = answer(max_tokens=5)
    step(own, [2, 0], [9, 5])
    step(own, [5], [FIRST])
    step(own, [FIRST, *SLOTS], [20, 30, 40])
    step(own, [20, 30, 40], [30, 40, 5])
    assert own.done
    assert own.tokens == [5, FIRST, 20, 30, 40]


@pytest.mark.parametrize("step_tokens", [1, 8])
def test_an_outline_goes_on_behind_its_region_one_location_a_step(step_tokens: int) -> None:
    own = answer(step_tokens=step_tokens, region=(20, 30, 40, 50))
    points = [21, 31, 41, 31, 41, 51]
    assert step(own, [2, 0, 20, 30, 40, 50], [9, 9, 9, 9, 9, points[0]]) == 6
    for location, behind in zip(points, [*points[1:], 2], strict=True):
        assert step(own, [location], [behind]) == 1
    assert own.done
    assert own.tokens == [*points, 2]
    assert own.position == 6 + len(points)
