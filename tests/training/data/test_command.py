import json
from pathlib import Path

from tests.conftest import run_module
from tests.training.boards import write_boards
from tests.training.data.coco_files import full_tree, write_tree


def test_check_exits_0_with_warnings_and_counts_boxes(tmp_path: Path) -> None:
    tree = full_tree()
    tree["text_descriptions"]["defect_009"] = "never used"
    result = run_module("training.data", "check", str(write_tree(tmp_path, tree)))
    assert (result.returncode, result.stderr) == (0, "")
    fault, summary = result.stdout.splitlines()
    assert "defect_009" in fault
    assert "0 errors, 1 warnings; 3 images (1 described), 2 boxes, cold_joint 1 in 1, 划痕 1 in 1" in summary


def test_check_exits_1_with_each_error_on_a_line(tmp_path: Path) -> None:
    tree = full_tree()
    tree["images"][2]["file_name"] = "images/gone\n.png"
    tree["annotations"][0]["bbox"] = [60, 1, 10, 5]
    result = run_module("training.data", "check", str(write_tree(tmp_path, tree)))
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 3


def test_check_exits_1_for_leaks_against_several_files(tmp_path: Path) -> None:
    train = write_tree(tmp_path, full_tree())
    empty = {"images": [], "annotations": [], "categories": []}
    others = [write_tree(tmp_path, empty, "val.json"), write_tree(tmp_path, full_tree(), "test.json")]
    assert run_module("training.data", "check", str(train), "--against", str(others[0])).returncode == 0
    result = run_module("training.data", "check", str(train), "--against", *map(str, others))
    assert result.returncode == 1
    assert "test.json" in result.stdout


def test_convert_writes_what_check_finds_sound(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    source, out = write_boards(tmp_path / "boards"), tmp_path / "train.json"
    result = run_module("training.data", "convert", "--from", "deeppcb", str(source), "--out", str(out))
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{out}: 6 images" in result.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["images"][0]["file_name"].startswith("boards/images/")
    assert run_module("training.data", "check", str(out)).returncode == 0


def test_convert_exits_2_with_a_message(tmp_path: Path) -> None:
    write_boards(tmp_path / "boards")
    out = str(tmp_path / "out.json")
    for arguments in (
        ("--from", "voc", str(tmp_path / "none"), "--out", out),
        ("--from", "yolo", str(tmp_path / "none"), "--out", out, "--zero-based"),
        ("--from", "deeppcb", str(tmp_path / "boards"), "--split", "other", "--out", out),
        ("--from", "deeppcb", str(tmp_path / "boards"), "--out", str(tmp_path / "no" / "folder.json")),
    ):
        result = run_module("training.data", "convert", *arguments)
        assert result.returncode == 2
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "out.json").exists()
