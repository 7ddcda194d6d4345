from pathlib import Path

from training.learning.run_log import RunLog


def test_a_resumed_run_drops_what_was_written_after_the_state_that_it_goes_on_from(tmp_path: Path) -> None:
    killed = RunLog(tmp_path, 0)
    for step in (20, 40, 60):
        killed.write(step, 1.0, {"losses": {"match": step / 100}})
    killed.close()
    with killed.file.open("a") as torn:
        torn.write('{"step": 80, "los')
    resumed = RunLog(tmp_path, 40)
    resumed.write(60, 2.0, {"losses": {"match": 0.5}})
    resumed.close()
    assert [line.split(",")[0] for line in resumed.text().splitlines()] == [f'{{"step": {s}' for s in (20, 40, 60)]
    assert '"match": 0.5' in resumed.text().splitlines()[-1]


def test_a_run_that_starts_anew_has_a_log_of_its_own(tmp_path: Path) -> None:
    former = RunLog(tmp_path, 0)
    former.write(20, 1.0, {"losses": {"match": 0.1}})
    former.close()
    new = RunLog(tmp_path, 0)
    new.write(20, 1.0, {"losses": {"match": 0.9}})
    new.close()
    assert len(new.text().splitlines()) == 1
    assert "0.9" in new.text()
