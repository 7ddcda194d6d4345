import pytest

from gateway.catalog.defect import Defect, Descriptions, Names
from gateway.catalog.document import read_document, write_document
from gateway.catalog.seeds import SEEDS
from gateway.errors import ParameterError
from gateway.telemetry.metrics import OTHER_WORDS

ODD = Defect(
    id="odd",
    names=Names(en=("no", "1.5", "2020-01-01", "# x", "a: b"), zh=("‘红胶’：溢出", "😀 胶")),
    descriptions=Descriptions(en=(" x ".join(["a long sentence"] * 20), "null", "- y", "'quoted' \"twice\"")),
    score_threshold=0.1 + 0.2,
    minimum_size_px=65_535,
    severity="info",
    colour="#000000",
    enabled=False,
)


def test_a_file_gives_back_exactly_what_was_written() -> None:
    defects = (*SEEDS, ODD)
    text = write_document(defects)
    assert read_document(text.encode()) == defects
    assert write_document(read_document(text.encode())) == text
    assert "断路" in text  # for people to read


def test_a_file_without_defects_empties_the_catalog() -> None:
    assert read_document(b"defects: []") == ()


FAULTS = """\
defects:
- id: Glue
  names: {zh: [缺陷]}
  colour: #ff0000
- id: glue
  names: {en: [glue], fr: [colle]}
  severity: terrible
  colour: red
  severity: minor
- names: {en: [spike]}
"""


def test_every_fault_is_named_with_its_line() -> None:
    with pytest.raises(ParameterError) as caught:
        read_document(FAULTS.encode())
    faults = dict(fault.removeprefix("line ").split(": ", 1) for fault in str(caught.value).split("; line "))
    for line, word in (
        ("2", "id"),
        ("3", "only asks"),
        ("4", "#rrggbb"),
        ("6", "fr"),
        ("7", "severity"),
        ("9", "twice"),
    ):
        assert word in str(caught.value)
        assert line in faults
    assert "id" in faults["10"]


def test_faults_between_defects_have_lines_as_well() -> None:
    text = "defects:\n- id: a\n  names: {en: [glue]}\n- id: b\n  names: {en: [Glue]}\n"
    text += "- id: c\n  names: {en: [x]}\n- id: c\n  names: {en: [x]}\n"
    with pytest.raises(ParameterError, match=r"line 4: b: 'glue' already names a") as caught:
        read_document(text.encode())
    assert "line 8: the id c is given 2 times" in str(caught.value)


@pytest.mark.parametrize("defect_id", ["find_all", OTHER_WORDS])
def test_an_id_that_means_something_else_has_its_line_too(defect_id: str) -> None:
    with pytest.raises(ParameterError, match=f"line 2: the id '{defect_id}'"):
        read_document(f"defects:\n- id: {defect_id}\n  names: {{en: [glue]}}\n".encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1"),
        (b"[]", "line 1"),
        (b"defects", "line 1"),
        (b"defects: {", "not YAML"),
        (b"a: b\n---\nc: d", "not YAML"),
        (b"defects: \xb6\xcc", "UTF-8"),
        (b"defects: !!python/object:os.system x", "not YAML"),
        (b"a: &a [x]\ndefects: *a", "aliases"),
        (b"defects: &a [*a]", "aliases"),
        (b"[" * 5000, "depth"),
        (b"- " * 5000, "deep"),
        (b"defects: [" + b"1, " * 1001 + b"]", "1000 at most"),
        (b"defects: [" + b"1, " * 200_000 + b"]", "100000"),
        (b"? [a, b]\n: c", "line 1"),
        (b"other: 1\ndefects: []", "line 1: other"),
        (b"defects: [\x00]", "not YAML"),
    ],
)
def test_what_is_no_catalog_is_explained(data: bytes, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        read_document(data)
