import pytest

from export.contract.defects import DEFECTS
from gateway.catalog import Catalog
from gateway.errors import UnavailableError

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
