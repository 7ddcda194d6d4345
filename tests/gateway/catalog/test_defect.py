from typing import Any

import pytest
from pydantic import ValidationError

from export.contract.defects import DEFECTS, known_defect
from gateway.catalog.defect import MAX_ENABLED, Defect, Names, explain, faults_between
from gateway.catalog.seeds import SEEDS

GLUE: dict[str, Any] = {"id": "red_glue", "names": {"zh": ["红胶溢出"]}}


def test_a_defect_needs_no_more_than_an_id_and_a_name() -> None:
    defect = Defect.model_validate(GLUE)
    assert (defect.score_threshold, defect.minimum_size_px, defect.enabled) == (None, 0, True)
    assert (defect.name_in("en"), defect.name_in("zh")) == ("红胶溢出", "红胶溢出")
    assert Defect.model_validate(GLUE | {"colour": "#AABBCC"}).colour == "#aabbcc"
    assert Defect.model_validate(GLUE | {"names": {"en": ["  glue "]}}).names.en == ("glue",)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"id": "Red Glue"}, "id", "letter"),
        ({"id": "x" * 65}, "id", "64"),
        ({"names": {}}, "names", "at least one name"),
        ({"names": {"en": [""]}}, "names.en.0", "at least 1"),
        ({"names": {"en": ["x" * 101]}}, "names.en.0", "100"),
        ({"names": {"en": [7]}}, "names.en.0", "string"),
        ({"names": {"en": [7] * 90_000}}, "names.en", "16 at most"),
        ({"names": {"en": ["glue\x00"]}}, "names.en.0", "control"),
        ({"names": {"zh": ["缺陷"]}}, "names.zh.0", "only asks"),
        ({"names": {"en": ["the board"]}}, "names.en.0", "only asks"),
        ({"names": {"fr": ["colle"]}}, "names.fr", "known are en, zh"),
        ({"descriptions": {"en": ["x" * 401]}}, "descriptions.en.0", "400"),
        ({"descriptions": {"zh": ["\ud800"]}}, "descriptions.zh.0", ""),
        ({"score_threshold": 1.5}, "score_threshold", "1"),
        ({"score_threshold": float("nan")}, "score_threshold", "finite"),
        ({"minimum_size_px": -1}, "minimum_size_px", "0"),
        ({"severity": "fatal"}, "severity", "critical"),
        ({"colour": "red"}, "colour", "#rrggbb"),
        ({"colour": None}, "colour", "#rrggbb"),
        ({"enabled": "perhaps"}, "enabled", "boolean"),
        ({"size": 3}, "size", "minimum_size_px"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Defect.model_validate(GLUE | change)
    ((where, fault),) = explain(caught.value)
    assert ".".join(map(str, where)) == place
    assert words in fault


def test_a_name_means_one_defect_in_any_spelling() -> None:
    glue = Defect.model_validate(GLUE | {"names": {"en": ["SHORT  circuit", "glue"], "zh": ["红胶溢出"]}})
    ((defect_id, fault),) = faults_between([*SEEDS, glue])
    assert defect_id == "red_glue"
    assert "'short circuit' already names short" in fault


@pytest.mark.parametrize("name", ["pin hole", "Pin_Hole", "solder-bridge", "mousebite "])
def test_a_name_that_training_takes_for_another_class_is_refused(name: str) -> None:
    glue = Defect.model_validate(GLUE | {"names": {"en": [name]}})
    ((_, fault),) = faults_between([*SEEDS, glue])
    assert "already names" in fault
    assert known_defect(name) is not None


def test_an_id_is_a_name_as_well() -> None:
    glue = Defect.model_validate(GLUE | {"names": {"en": ["spur"]}})
    assert len(faults_between([*SEEDS, glue])) == 1


def test_no_more_may_be_enabled_than_one_request_can_ask_for() -> None:
    many = [Defect(id=f"d{number}", names=Names(en=[f"kind {number}"])) for number in range(MAX_ENABLED + 1)]
    assert "65 defects are enabled" in faults_between(many)[0][1]
    assert faults_between([many[0].model_copy(update={"enabled": False}), *many[1:]]) == []


def test_the_seeds_are_the_twelve_of_the_contract() -> None:
    assert [seed.id for seed in SEEDS] == [defect.id for defect in DEFECTS]
    assert faults_between(SEEDS) == []
    assert len({seed.colour for seed in SEEDS}) == len(SEEDS)
