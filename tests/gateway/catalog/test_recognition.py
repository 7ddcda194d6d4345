import pytest

from export.contract.defects import DEFECTS
from gateway.catalog.defect import Defect, Descriptions, Names
from gateway.catalog.recognition import Catalog, asked_by
from gateway.catalog.seeds import SEEDS
from gateway.words.wording import normalise
from training.prompts import LANGUAGES, PHRASINGS, Language, names
from training.spread import UNSEEN

CATALOG = Catalog(1, SEEDS)
GLUE = Defect(
    id="red_glue",
    names=Names(en=["glue overflow"], zh=["红胶溢出", "溢胶"]),
    descriptions=Descriptions(en=["red glue that has run onto a pad"], zh=["红胶流到焊盘上"]),
)


@pytest.mark.parametrize(
    ("prompt", "defect"),
    [
        ("open", "open"),
        ("  Open   CIRCUIT ", "open"),
        ("寻找短路", "short"),
        ("find spurs", "spur"),
        ("图像中是否存在焊锡不足?", "insufficient_solder"),
        ("find mouse bites", "mousebite"),
        ("find pin holes", "pin_hole"),
        ("PIN_HOLE", "pin_hole"),
        ("mouse_bite", "mousebite"),
        ("is there a short_circuit?", "short"),
        ("mark each open-circuit", "open"),
        ("solder-bridge", "solder_bridge"),
        ("missing-components", "missing_component"),
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_class_asked_for_by_name_in_any_phrasing_is_asked_for_by_its_name(language: Language) -> None:
    """Also in those phrasings that training keeps apart to judge by."""
    for defect in DEFECTS:
        name = names(defect, language)[0]
        for phrasing in (*PHRASINGS[language], *UNSEEN[language]):
            assert CATALOG.wording(phrasing.format(label=name)) == normalise(name), phrasing


@pytest.mark.parametrize("prompt", ["pin hole", "find Pin-Holes", "pin_hole", "ＰＩＮ－ＨＯＬＥ"])
def test_a_name_however_spelled_is_asked_for_as_it_was_learned(prompt: str) -> None:
    assert (CATALOG.recognise(prompt), CATALOG.wording(prompt)) == ("pin_hole", "pin-hole")


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


def test_a_taught_defect_is_asked_for_by_its_first_description() -> None:
    catalog = Catalog(2, [*SEEDS, GLUE])
    for prompt in ("red_glue", "找出红胶溢出", "Glue Overflow", "请标出溢胶的位置"):
        assert (catalog.recognise(prompt), catalog.wording(prompt)) == ("red_glue", "red glue that has run onto a pad")
        assert catalog.asked_for(prompt) == "red_glue"
    assert catalog.wording("引脚旁边的红胶溢出") == "引脚旁边的红胶溢出"
    assert catalog.asked_for("引脚旁边的红胶溢出") is None
    assert asked_by(GLUE.model_copy(update={"descriptions": Descriptions(zh=["红胶流到焊盘上"])})) == "红胶流到焊盘上"
    assert asked_by(GLUE.model_copy(update={"descriptions": Descriptions()})) == "glue overflow"


def test_a_name_added_to_a_learned_class_is_asked_for_by_a_learned_one() -> None:
    spur = next(defect for defect in SEEDS if defect.id == "spur")
    renamed = spur.model_copy(update={"names": Names(zh=["拉尖", "毛刺"])})
    catalog = Catalog(2, [renamed])
    assert (catalog.recognise("寻找拉尖"), catalog.wording("寻找拉尖")) == ("spur", "spur")
    assert catalog.wording("寻找毛刺") == "毛刺"
    assert catalog.recognise("find burrs") is None  # its name no longer


def test_everything_is_what_is_enabled_and_can_be_found() -> None:
    off = GLUE.model_copy(update={"id": "off", "enabled": False})
    catalog = Catalog(2, [*SEEDS, GLUE, off])
    assert [defect.id for defect in catalog.everything(["open", "short"])] == ["open", "short", "red_glue"]
    assert [defect.id for defect in catalog.everything(["open", "of another plant"])] == ["open", "red_glue"]


def test_an_empty_catalog_recognises_nothing() -> None:
    catalog = Catalog(9, [])
    assert (catalog.recognise("open"), catalog.recognise(""), catalog.wording("find spurs")) == (
        None,
        None,
        "find spurs",
    )
