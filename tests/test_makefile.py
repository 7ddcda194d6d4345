"""The Makefile draws the boards that `make train` learns from once, and again what was interrupted."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

DRAWN = ("synth", "bare", "dense", "sound", "looks", "synth_val")


def planned(folder: Path) -> list[str]:
    """The folders that `make train` would have drawn."""
    plan = subprocess.run(["make", "--dry-run", "train"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return [line.partition("--out ")[2].split()[0] for line in plan.splitlines() if "training.synth" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A Makefile whose boards are all drawn, and an environment that was made anew since."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    boards = [tmp_path / "data" / name / "annotations.json" for name in DRAWN]
    files = ["pyproject.toml", "constraints.txt", ".venv-dev/.installed"]
    for age, path in enumerate([*boards, *(tmp_path / name for name in files)]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (age, age))
    for folder in (tmp_path / "data").iterdir():
        os.utime(folder, (0, 0))
    return tmp_path


def test_boards_that_are_drawn_outlive_a_new_environment(checkout: Path) -> None:
    assert planned(checkout) == []


@pytest.mark.parametrize("name", DRAWN)
def test_a_half_drawn_folder_is_drawn_anew(name: str, checkout: Path) -> None:
    (checkout / "data" / name / "annotations.json").unlink()
    assert planned(checkout) == [f"data/{name}"]
