"""What a request's words come to, without a model."""

import pytest

from export.contract.tensors import Dimensions
from gateway.catalog.defect import Defect, Descriptions, Names
from gateway.catalog.recognition import Catalog
from gateway.catalog.seeds import SEEDS
from gateway.errors import ParameterError
from gateway.models.served import Served
from gateway.words.asking import questions

SERVED = Served(
    version="1",
    checkpoint_name="two",
    checkpoint_sha256="",
    dimensions=Dimensions(tile=256, embedding=192, boxes=100),
    defects=("open", "short"),
    score_thresholds={"default": 0.4, "open": 0.3},
)
GLUE = Defect(id="red_glue", names=Names(zh=("红胶溢出",)), descriptions=Descriptions(en=("red glue on a pad",)))
CATALOG = Catalog(1, [*SEEDS, GLUE])


def rows(*prompts: str, score_threshold: float | None = None, catalog: Catalog = CATALOG) -> list[tuple[object, ...]]:
    asked = questions(prompts, score_threshold, catalog, SERVED, lambda text: len(text) < 100)
    return [(q.prompt, q.defect.id if q.defect else None, q.asked, q.score_threshold) for q in asked]


def test_without_a_prompt_everything_is_asked_for() -> None:
    assert rows() == [
        ("open circuit", "open", "open circuit", 0.3),
        ("short circuit", "short", "short circuit", 0.4),
        ("红胶溢出", "red_glue", "red glue on a pad", 0.4),
    ]


def test_a_prompt_that_means_everything_keeps_its_words() -> None:
    everything = [("找出所有缺陷", *row[1:]) for row in rows()]
    assert rows("找出所有缺陷") == everything
    assert rows("find spurs", "找出所有缺陷")[1:] == everything


def test_each_prompt_is_one_question() -> None:
    assert rows("寻找断路", "a strange green spot", "用红框标出红胶溢出") == [
        ("寻找断路", "open", "断路", 0.3),
        ("a strange green spot", None, "a strange green spot", 0.4),
        ("用红框标出红胶溢出", "red_glue", "red glue on a pad", 0.4),
    ]


def test_the_request_s_threshold_goes_before_the_catalog_s_before_the_checkpoint_s() -> None:
    strict = Catalog(2, [SEEDS[0].model_copy(update={"score_threshold": 0.9}), SEEDS[1]])
    assert [row[3] for row in rows(catalog=strict)] == [0.9, 0.4]
    assert [row[3] for row in rows(catalog=strict, score_threshold=0.0)] == [0.0, 0.0]


def test_what_the_model_cannot_read_whole_is_left_out() -> None:
    long = GLUE.model_copy(update={"descriptions": Descriptions(en=("x" * 200,))})
    assert len(rows(catalog=Catalog(2, [SEEDS[0], long]))) == 1


def test_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(ParameterError, match="prompt"):
        rows(catalog=Catalog(2, SEEDS[2:]))
    with pytest.raises(ParameterError, match="66 things"):
        rows(*["find all defects"] * 22)


def test_what_was_understood_is_told() -> None:
    (question,) = questions(["mark spurs with red boxes and blue masks"], None, CATALOG, SERVED, lambda _: True)
    told = question.understood()
    assert (told.defect, told.asked, told.task) == ("spur", "spur", "segment")
    assert (told.box_colour, told.mask_colour) == ("#e6194b", "#1f77ff")


def test_the_usual_threshold_is_told_whatever_the_request_asks() -> None:
    strict = Catalog(2, [SEEDS[0].model_copy(update={"score_threshold": 0.9}), *SEEDS[1:]])
    asked = questions(["open", "short", "a green spot"], 0.05, strict, SERVED, lambda _: True)
    assert [question.understood().usual_threshold for question in asked] == [0.9, 0.4, 0.4]
