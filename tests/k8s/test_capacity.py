"""The capacity sheet's tables say what its formula and the tiling really give."""

import math

import pytest

from export.contract.tiles import tile_origins, tile_side
from tests.conftest import ROOT

TILE_MS = 93 / 8  # docs/export.md: OpenVINO bf16, eight tiles
BUSY = 0.7
SHEET = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
LINES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in SHEET.partition("## Some lines")[2].partition("## What else grows")[0].splitlines()
    if line.startswith("|") and line[2].isdigit()
]


def test_sheet_has_lines_and_the_time_of_a_tile_that_was_measured() -> None:
    assert LINES
    measured = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert "| **OpenVINO bf16** | 13.0 | 16.6 | 93 |" in measured


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]} cameras, {line[2]}")
def test_line_of_the_sheet_is_what_the_formula_gives(line: list[str]) -> None:
    cameras, rate, board, tiles, per_second, busy, needed = line
    size, *looks = board.split(", looks of ")
    width, height = (int(side) for side in size.split(" x "))
    sides = [tile_side(256, float(look)) for look in (looks[0].split(" and ") if looks else ["1"])]
    assert int(tiles) == sum(len(tile_origins((width, height), side)) for side in sides)
    assert float(per_second) == pytest.approx(int(cameras) * float(rate) * int(tiles))
    assert float(busy) == pytest.approx(float(per_second) * TILE_MS / 1000, abs=0.005)
    assert int(needed) == math.ceil(float(per_second) * TILE_MS / 1000 / BUSY)
