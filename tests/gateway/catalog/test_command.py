"""`python -m gateway.catalog`, as an operator runs it."""

from pathlib import Path

from tests.conftest import run_module

MODULE = "gateway.catalog"


def test_a_catalog_goes_out_and_into_another_database_unchanged(tmp_path: Path) -> None:
    file, again = str(tmp_path / "catalog.yaml"), str(tmp_path / "again.yaml")
    one, two = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two"))
    assert run_module(MODULE, "export", file, PCBD_DATABASE_URL=one).returncode == 0
    text = Path(file).read_text().replace("minimum_size_px: 0", "minimum_size_px: 7", 1)
    Path(file).write_text(text)
    told = run_module(MODULE, "import", file, "--dry-run", PCBD_DATABASE_URL=two)
    assert "changed: open\n" in told.stdout
    assert "nothing was written" in told.stdout
    done = run_module(MODULE, "import", file, "--actor", "王工", PCBD_DATABASE_URL=two)
    assert done.stdout.splitlines() == ["added: none", "changed: open", "deleted: none", "revision 2"]
    assert run_module(MODULE, "export", again, "--database-url", two).returncode == 0
    assert Path(again).read_text() == text


def test_the_history_takes_the_names_that_http_takes(tmp_path: Path) -> None:
    database, file = f"sqlite:///{tmp_path}/gateway.db", str(tmp_path / "catalog.yaml")
    assert run_module(MODULE, "export", file, PCBD_DATABASE_URL=database).returncode == 0
    for actor in ("", " ", "x" * 101, "王\n工"):
        result = run_module(MODULE, "import", file, "--actor", actor, PCBD_DATABASE_URL=database)
        assert (result.returncode, "--actor" in result.stderr, result.stdout) == (1, True, ""), result.stderr
        assert "Traceback" not in result.stderr
    assert run_module(MODULE, "import", file, "--actor", "王" * 100, PCBD_DATABASE_URL=database).returncode == 0


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/gateway.db"
    bad = tmp_path / "bad.yaml"
    bad.write_text("defects:\n- id: X\n  names: {}\n")
    for arguments, words in (
        (["import", str(bad)], "line 3"),
        (["import", str(tmp_path / "nowhere.yaml")], "nowhere.yaml"),
        (["export", str(tmp_path / "no" / "where.yaml")], "where.yaml"),
        (["export", "-", "--database-url", "mysql://host/name"], "PCBD_DATABASE_URL"),
    ):
        result = run_module(MODULE, *arguments, PCBD_DATABASE_URL=database)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        assert "Traceback" not in result.stderr
