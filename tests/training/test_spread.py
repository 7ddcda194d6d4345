import json
from pathlib import Path

from tests.conftest import run_module
from tests.training.boards import write_boards
from training.prompts import ALL_DEFECTS, LANGUAGES, PHRASINGS
from training.spread import UNSEEN


def test_the_phrasings_that_judge_are_never_trained_on() -> None:
    for language in LANGUAGES:
        assert len(set(UNSEEN[language])) == 20
        assert not set(UNSEEN[language]) & {*PHRASINGS[language], *ALL_DEFECTS[language]}
        assert all(phrasing.count("{label}") == 1 for phrasing in UNSEEN[language])


def test_spread_is_between_the_best_and_the_worst_phrasing(tmp_path: Path, tiny_checkpoint: Path) -> None:
    boards = write_boards(tmp_path / "data", count=2)
    result = run_module("training.spread", "--checkpoint", str(tiny_checkpoint), "--data", str(boards))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    figures = [value for language in LANGUAGES for value in report[language].values()]
    assert len(figures) == 40
    assert report["spread"] == round(max(figures) - min(figures), 4)


def test_spread_names_a_missing_checkpoint(tmp_path: Path) -> None:
    result = run_module("training.spread", "--checkpoint", str(tmp_path), "--data", str(tmp_path))
    assert (result.returncode, "config.json" in result.stderr) == (2, True)
