import pytest

from export.contract.defects import DEFECTS
from gateway.catalog import Catalog, normalise
from gateway.errors import UnavailableError
from training.prompts import LANGUAGES, PHRASINGS, Language, names
from training.spread import UNSEEN

CATALOG = Catalog(["open", "short"])


@pytest.mark.parametrize(
    ("prompt", "defect"),
    [
        ("open", "open"),
        ("  Open   CIRCUIT ", "open"),
        ("寻找短路", "short"),
        ("find spurs", "spur"),
        ("图像中是否存在焊锡不足?", "insufficient_solder"),
        ("find mouse bites", "mousebite"),
        ("spurious copper", "spurious_copper"),
        ("locate all solder bridge regions", "solder_bridge"),
        ("find pads with too little solder", "insufficient_solder"),
        ("an opener of bottles", None),
        ("a strange green spot", None),
        ("奇怪的绿点", None),
    ],
)
def test_recognise_finds_the_class_that_words_name(prompt: str, defect: str | None) -> None:
    assert CATALOG.recognise(prompt) == defect


def test_every_name_is_recognised_as_its_own_class() -> None:
    for defect in DEFECTS:
        for name in (defect.id, *defect.names_en, *defect.names_zh):
            assert CATALOG.recognise(name) == defect.id
            assert CATALOG.recognise(f"please find {name} here") == defect.id


def test_the_catalog_holds_the_trained_classes_only() -> None:
    assert [defect.id for defect in CATALOG.defects] == ["open", "short"]
    with pytest.raises(UnavailableError, match="unheard_of"):
        Catalog(["open", "unheard_of"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_class_asked_for_by_name_in_any_phrasing_is_asked_for_by_its_name(language: Language) -> None:
    """Also in those phrasings that training keeps apart to judge by."""
    for defect in DEFECTS:
        name = names(defect, language)[0]
        for phrasing in (*PHRASINGS[language], *UNSEEN[language]):
            assert CATALOG.wording(phrasing.format(label=name)) == normalise(name), phrasing


@pytest.mark.parametrize(
    "prompt",
    [
        "a short black scratch beside the pin",
        "copper that joins two neighbouring traces",
        "圆形焊点周围有黑色氧化痕迹",
        "相邻两条线路被铜连在一起的短路",
        "open or short",  # two classes: neither alone is what was asked for
        "find all defects",
    ],
)
def test_a_description_goes_to_the_encoder_as_it_is(prompt: str) -> None:
    assert CATALOG.wording(prompt) == prompt


@pytest.mark.parametrize("prompt", ["spurs", "Find SPURS!", "请问板上有没有毛刺？", "  spur  "])
def test_a_name_is_found_whatever_its_number_and_marks(prompt: str) -> None:
    assert CATALOG.wording(prompt) in {"spur", "毛刺"}
