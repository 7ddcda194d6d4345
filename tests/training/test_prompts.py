import random

import pytest

from training.prompts import LANGUAGES, PHRASINGS, PLACE_WORDS, Language, ask_for

LABELS: dict[Language, str] = {"en": "pads with too little solder", "zh": "焊锡不足的焊点"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_whatever_surrounds_a_label_it_is_asked_for_whole(language: Language) -> None:
    rng = random.Random(0)
    asked = [ask_for(LABELS[language], language, rng) for _ in range(300)]
    assert all(LABELS[language] in text for text in asked)
    known = {phrasing.format(label=LABELS[language]) for phrasing in PHRASINGS[language]}
    assert known & set(asked)
    assert set(asked) - known  # words that mean nothing around it


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_about_places_stand_in_front_of_a_label_and_behind_it(language: Language) -> None:
    """Of a prompt's two sides each has a certain one in 1.3 draws of 100: none in 4,000 would be a chance of e^-53."""
    rng = random.Random(0)
    sides = [ask_for(LABELS[language], language, rng).partition(LABELS[language]) for _ in range(4000)]
    for side in (0, 2):
        texts = [f" {text[side]} " for text in sides]
        for word in PLACE_WORDS[language]:
            whole = word if language == "zh" else f" {word} "
            assert not any(whole in f" {phrasing} " for phrasing in PHRASINGS[language])  # they do not bring it
            assert any(whole in text for text in texts), (word, side)


def test_a_single_bare_template_leaves_nothing_to_take_words_from() -> None:
    rng = random.Random(0)
    only: dict[Language, tuple[str, ...]] = {"en": ("{label}",), "zh": ("{label}",)}
    assert all("spur" in ask_for("spur", "en", rng, only) for _ in range(50))


def test_braces_in_a_label_are_the_users_own() -> None:
    assert all("{x}" in ask_for("a {x}", "en", random.Random(seed), PHRASINGS) for seed in range(20))
