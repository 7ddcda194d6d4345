from itertools import product

import pytest

from training.synth.blemishes import LOOKS
from training.synth.defects import COPPER_PLACES
from training.synth.phrases import COLOURS, COMPONENTS_ZH, SHAPES, category_names, describe, describe_category
from training.synth.picture import CATEGORIES


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def by_language(sentences: dict[str, str]) -> tuple[list[str], list[str]]:
    english = [text for key, text in sentences.items() if "_en_" in key]
    return english, [text for key, text in sentences.items() if "_zh_" in key]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_has_names_and_sentences_in_both_languages(category: str) -> None:
    english, chinese = by_language(describe_category(category))
    names = category_names(category)
    for texts in (english, names["en"]):
        assert texts
        assert not any(is_chinese(text) or not text.strip() for text in texts)
    for texts in (chinese, names["zh"]):
        assert texts
        assert all(is_chinese(text) for text in texts)


def test_a_blemish_is_described_by_each_of_its_attributes() -> None:
    for look in LOOKS:
        english, chinese = by_language(describe("blemish", look.as_attributes()))
        assert len(set(english)) == len(set(chinese)) == 4
        for text in english:
            assert any(word in text for word in COLOURS[look.colour][0])
            assert any(word in text for word in SHAPES[look.shape][0])
            assert look.component == "none" or look.component in text
        for text in chinese:
            assert any(word in text for word in COLOURS[look.colour][1])
            assert any(word in text for word in SHAPES[look.shape][1])
            assert look.component == "none" or COMPONENTS_ZH[look.component] in text


def test_different_looks_never_share_an_id() -> None:
    ids = [key for look in LOOKS for key in describe("blemish", look.as_attributes())]
    assert len(ids) == len(set(ids))


def test_defects_are_described_wherever_they_are_drawn() -> None:
    cases = [(name, place, "none") for name, (_, place) in COPPER_PLACES.items()]
    joints = ("cold_solder_joint", "insufficient_solder")
    cases += [(name, "solder_joint", kind) for name, kind in product(joints, COMPONENTS_ZH)]
    cases += [("solder_bridge", "pins", "chip"), ("component_misalignment", "component", "resistor")]
    cases += [("missing_component", "pads", "capacitor"), ("scratch", "board", "none")]
    for category, place, component in cases:
        english, chinese = by_language(describe(category, {"place": place, "component": component}))
        assert english
        assert all(is_chinese(text) for text in chinese)
        if component != "none":
            assert all(component in text for text in english)
