import pytest

from gateway.answer import Box, Detection
from gateway.catalog.defect import Severity
from gateway.verdict import counts, verdict


def detection(defect: str | None, severity: Severity | None, prompt: str = "words") -> Detection:
    box = Box(x1=0, y1=0, x2=1, y2=1)
    return Detection(id="x", defect=defect, severity=severity, prompt=prompt, score=0.5, box=box)


@pytest.mark.parametrize(
    ("severity", "ng_from", "expected"),
    [
        ("info", "info", "ng"), ("info", "minor", "ok"), ("major", "major", "ng"), ("major", "critical", "ok"),
        ("critical", "critical", "ng"), (None, "critical", "ng"),
    ],
)  # fmt: skip
def test_verdict_is_by_the_gravest_defect(severity: Severity | None, ng_from: Severity, expected: str) -> None:
    assert verdict([detection("spur", "info" if severity else None), detection("spur", severity)], ng_from) == expected


def test_verdict_of_a_clean_board_is_ok() -> None:
    assert verdict([], "info") == "ok"


def test_counts_are_by_defect_or_else_by_words() -> None:
    found = [detection("spur", "minor", "毛刺"), detection("spur", "minor", "spur"), detection(None, None, "红胶溢出")]
    assert counts(found) == {"spur": 2, "红胶溢出": 1}
