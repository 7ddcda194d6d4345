"""The command `pcbd` as a shell sees it: what it prints, what it leaves, how it exits."""

import errno
import io
import json
import ntpath
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import stamina
from PIL import Image

from gateway.answer import Problem
from gateway.client.cli import main
from gateway.up import free_port
from tests.conftest import BOARD, ROOT
from tests.gateway.review.test_store import answer_of
from tests.gateway.test_client import answering, stranger
from tests.gateway.test_failures import PATIENCE_S, wait_until

COMMAND = [sys.executable, "-m", "gateway.client.cli"]


def pcbd(url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command within this process, which spares its start."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("PCBD_URL", url)
        patch.setattr(sys, "argv", ["pcbd", *map(str, arguments)])
        patch.chdir(ROOT)
        with pytest.raises(SystemExit) as ended:
            main()
    stamina.instrumentation.set_on_retry_hooks(None)
    return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    path = tmp_path / "blank.png"
    Image.new("L", (64, 64), 128).save(path)
    return path


def test_detect_shows_a_table_and_exits_by_the_verdict(gateway_url: str, blank: Path) -> None:
    ng = pcbd(gateway_url, "detect", BOARD, blank, "-p", "寻找[短路]", "-p", "find spurs")
    assert ng.returncode == 1, ng.stderr
    for word in ("board.png", "blank.png", "ng", "ok", "short", "寻找[短路]"):
        assert word in ng.stdout
    assert pcbd(gateway_url, "detect", BOARD, "-p", "短路", "--ng-ok").returncode == 0
    assert pcbd(gateway_url, "detect", blank, "-p", "短路").returncode == 0


def test_detect_prints_json_and_keeps_annotated_pictures(gateway_url: str, blank: Path, tmp_path: Path) -> None:
    shutil.copy(BOARD, tmp_path / "board.png")
    out = tmp_path / "drawn"
    result = pcbd(gateway_url, "detect", tmp_path, "-p", "短路", "--json", "--annotated", out, "--set", "board_id=板-1")
    assert result.returncode == 1, result.stderr
    lines = {Path(line["image"]).name: line for line in map(json.loads, result.stdout.splitlines())}
    assert lines["board.png"]["answer"]["board_id"] == "板-1"
    assert lines["blank.png"]["answer"]["verdict"] == "ok"
    with Image.open(out / "board.png.png") as drawn, Image.open(BOARD) as board:
        assert drawn.size == board.size
        assert drawn.convert("RGB").tobytes() != board.convert("RGB").tobytes()


def test_annotated_pictures_of_one_name_from_two_folders_are_both_kept(
    gateway_url: str, blank: Path, tmp_path: Path
) -> None:
    for folder, source in (("left", BOARD), ("right", blank)):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "1.png")
    pictures = [tmp_path / "left", tmp_path / "left" / ".." / "right"]
    result = pcbd(gateway_url, "detect", *pictures, "-p", "短路", "--ng-ok", "--annotated", tmp_path / "drawn")
    assert result.returncode == 0, result.stderr
    for folder in ("left", "right"):
        with (
            Image.open(tmp_path / "drawn" / folder / "1.png.png") as drawn,
            Image.open(tmp_path / folder / "1.png") as picture,
        ):
            assert drawn.size == picture.size


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["detect", "nowhere.png", "README.md", "*.none"], 2, ["nowhere.png", "*.none"]),
        (["detect", "README.md", BOARD], 2, ["README.md: 415"]),
        (["detect", BOARD, "--set", "colour=red"], 2, ["colour"]),
        (["detect", BOARD, "--set", "red"], 2, ["NAME=VALUE"]),
        (["detect", BOARD, "--set", "timeout_s=5", "--set", "self=1"], 2, ["--set", "timeout_s", "self"]),
        (["bench", BOARD, "--set", "image=other.png"], 2, ["--set", "image"]),
        (["detect"], 2, ["IMAGE"]),
        (["bench", "nowhere.png"], 2, ["nowhere.png"]),
        (["watch", "nowhere"], 2, ["nowhere"]),
        (["watch", ".", "--annotated", "."], 2, ["another"]),
        (["detect", BOARD, "--url", "localhost:80"], 2, ["http://"]),
        (["detect", BOARD, "--url", "http://127.0.0.1:PORT", "--timeout", "1"], 3, ["does not answer"]),
        (["bench", BOARD, "--url", "http://127.0.0.1:PORT", "--timeout", "1"], 3, ["does not answer"]),
        (["bench", BOARD, "--rate", "0.01", "--seconds", "10"], 2, ["0.01", "10"]),
    ],
    ids=lambda value: " ".join(map(str, value)).replace(str(BOARD), "BOARD") if isinstance(value, list) else None,
)
def test_what_is_wrong_is_named_with_its_exit_code(
    gateway_url: str, arguments: list[str], code: int, words: list[str]
) -> None:
    closed = str(free_port())
    result = pcbd(gateway_url, *(str(argument).replace("PORT", closed) for argument in arguments))
    assert result.returncode == code, result.stderr
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["defects"], ["bench", BOARD, "--seconds", "0.1"]], ids=lambda it: it[0])
@pytest.mark.parametrize("content", [b'{"status": "ok"}', b'{"defects": [{}], "timings_ms": {}}'])
def test_another_service_that_speaks_json_is_no_gateway(command: list[str], content: bytes) -> None:
    with stranger(content, 200, "application/json") as url:
        assert pcbd(url, *command).returncode == 3


def test_a_line_of_json_is_there_while_the_next_picture_is_at_work(blank: Path, tmp_path: Path) -> None:
    second = shutil.copy(blank, tmp_path / "second.png")
    content = answer_of("a", "short").model_dump_json().encode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        arguments = ["detect", blank, second, "--json", "--at-once", "1", "--timeout", "3600", "--url", url]
        detect = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            with server.accept()[0] as connection:
                connection.recv(1)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + content)  # and the second is never answered
                assert detect.stdout is not None
                assert select.select([detect.stdout], [], [], PATIENCE_S)[0]
                assert json.loads(detect.stdout.readline())["image"] == str(blank)
        finally:
            detect.kill()
            detect.communicate()


def test_defects_lists_the_catalog(gateway_url: str) -> None:
    table = pcbd(gateway_url, "defects")
    assert (table.returncode, "焊锡不足" in table.stdout) == (0, True)
    listed = json.loads(pcbd(gateway_url, "defects", "--json").stdout)
    assert "short" in {defect["id"] for defect in listed}


@pytest.mark.parametrize("load", [["--rate", "2"], ["--concurrency", "2"]])
def test_bench_ends_with_a_line_of_json(gateway_url: str, blank: Path, load: list[str]) -> None:
    result = pcbd(gateway_url, "bench", blank, "-p", "短路", "--seconds", "2", *load)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["requests"] == report["ok"] >= 2
    assert report["errors"] == {}
    latency = report["latency_ms"]
    assert latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert report["gateway_ms"]["p50"] > 0


def done(results: Path) -> dict[str, dict[str, Any]]:
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return {line["file"]: line for line in map(json.loads, lines)}


def test_watch_asks_about_each_complete_picture_once_over_restarts(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    shutil.copy(BOARD, folder / "1.png")
    (folder / "notes.txt").write_text("no picture by its name")
    (folder / "2.png").write_text("no picture by its bytes")
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0.2", "--once"]
    first = pcbd(gateway_url, *arguments)
    assert first.returncode == 0, first.stderr
    assert (set(done(results)), done(results)["2.png"]["problem"]["status"]) == ({"1.png", "2.png"}, 415)
    with results.open("a") as file:
        file.write('{"file": "3.p')  # the machine stopped while it was being written
    shutil.copy(BOARD, folder / "3.png")
    assert pcbd(gateway_url, *arguments).returncode == 0
    assert [json.loads(line)["file"] for line in results.read_text().splitlines()].count("1.png") == 1
    assert done(results)["3.png"]["answer"]["verdict"] == "ng"


def test_watch_goes_on_behind_a_picture_that_no_region_lies_in(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    with Image.open(BOARD) as board:
        board.crop((0, 0, 100, 100)).save(folder / "1.png")
        board.save(folder / "2.png")
    region = ["--set", "regions=[[300, 300, 400, 400]]"]
    result = pcbd(gateway_url, "watch", folder, "--results", results, "--once", "--settle", "0.2", *region)
    assert result.returncode == 0, result.stderr
    assert done(results)["1.png"]["problem"]["status"] == 422
    assert "answer" in done(results)["2.png"]


def test_watch_waits_for_a_picture_that_is_being_written_and_ends_at_sigterm(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0.5", "--interval", "0.05"]
    watch = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=ROOT, env={**os.environ, "PCBD_URL": gateway_url})
    try:
        wait_until(results.exists)
        data = BOARD.read_bytes()
        with (folder / "slow.png").open("wb") as file:
            for start in range(0, len(data), 100):  # each block makes it another picture before it has settled
                file.write(data[start : start + 100])
                file.flush()
        wait_until(lambda: "slow.png" in done(results))
        assert done(results)["slow.png"]["answer"]["verdict"] == "ng"
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(60) == 0
    finally:
        watch.kill()
        watch.wait()


def test_watch_keeps_pictures_for_a_gateway_that_is_away(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    shutil.copy(BOARD, folder / "1.png")
    arguments = ["watch", folder, "--results", results, "--settle", "0", "--once"]
    away = pcbd(f"http://127.0.0.1:{free_port()}", *arguments, "--timeout", "0.2")
    assert (away.returncode, "asked about again" in away.stderr, done(results)) == (3, True, {})
    refused = pcbd(gateway_url, *arguments, "--set", "colour=red")
    assert (refused.returncode, "colour" in refused.stderr, done(results)) == (2, True, {})
    assert pcbd(gateway_url, *arguments).returncode == 0
    assert set(done(results)) == {"1.png"}


def test_watch_goes_on_behind_a_picture_that_the_gateway_fails_at(tmp_path: Path) -> None:
    folder, results, told = (tmp_path / name for name in ("camera", "results.jsonl", "told"))
    folder.mkdir()
    shutil.copy(BOARD, folder / "1.png")
    shutil.copy(BOARD, tmp_path / "2.png")
    problem = Problem(title="Deadline exceeded", status=504, detail="too late").model_dump_json().encode()
    good = answer_of("a", "short").model_dump_json().encode()
    asked: list[str] = []

    def answer(body: bytes) -> tuple[bytes, int, str]:
        asked.append("1.png" if b'filename="1.png"' in body else "2.png")
        return (problem, 504, "application/problem+json") if asked[-1] == "1.png" else (good, 200, "application/json")

    arguments = ["watch", folder, "--results", results, "--settle", "0", "--interval", "0.05", "--at-once", "1"]
    with answering(answer) as url:
        with told.open("w") as err:
            watch = subprocess.Popen([*COMMAND, *map(str, arguments), "--url", url], cwd=ROOT, stderr=err)
        try:
            wait_until(lambda: "asked about again" in told.read_text(encoding="utf-8"))
            (tmp_path / "2.png").rename(folder / "2.png")
            wait_until(lambda: "2.png" in done(results))
            assert asked == ["1.png", "2.png"]  # the first one's pause is not over
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(PATIENCE_S) == 0
        finally:
            watch.kill()
            watch.wait()
        once = pcbd(url, *arguments, "--once")
    assert (once.returncode, "1.png" in once.stderr, set(done(results))) == (3, True, {"2.png"})


def test_watch_outlives_a_share_that_is_away_for_a_moment(tmp_path: Path) -> None:
    folder, away, results, told = (tmp_path / name for name in ("camera", "away", "results.jsonl", "told"))
    folder.mkdir()
    arguments = ["watch", folder, "--results", results, "--settle", "0", "--interval", "0.05"]
    with stranger(answer_of("a", "short").model_dump_json().encode(), 200, "application/json") as url:
        command = [*COMMAND, *map(str, arguments), "--url", url]
        with told.open("w") as err:
            watch = subprocess.Popen(command, cwd=ROOT, stderr=err)
        try:
            wait_until(results.exists)
            folder.rename(away)
            wait_until(lambda: "looked into again" in told.read_text(encoding="utf-8"))
            shutil.copy(BOARD, away / "1.png")
            away.rename(folder)
            wait_until(lambda: "1.png" in done(results))
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(PATIENCE_S) == 0
        finally:
            watch.kill()
            watch.wait()


def test_watch_once_tells_what_cannot_be_looked_at_and_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    for path in (folder, folder / "1.png"):
        path.mkdir()
    shutil.copy(BOARD, folder / "2.png")
    arguments = ["watch", folder, "--results", results, "--settle", "0", "--once"]
    is_file = Path.is_file

    def fail(path: Path, *_: object) -> bool:
        if path.name == "1.png":
            raise OSError(errno.ESTALE, "stale file handle")
        return is_file(path)

    with stranger(answer_of("a", "short").model_dump_json().encode(), 200, "application/json") as url:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "is_file", fail)
            result = pcbd(url, *arguments)
        assert (result.returncode, "1.png" in result.stderr, set(done(results))) == (2, True, {"2.png"}), result.stderr
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda path: fail(path / "1.png"))
            assert pcbd(url, *arguments).returncode == 2


def test_watch_ends_at_sigterm_while_the_gateway_does_not_answer(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    for name in ("1.png", "2.png", "3.png"):
        shutil.copy(BOARD, folder / name)
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        watch = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--timeout", "3600"],
            cwd=ROOT,
            env={**os.environ, "PCBD_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with silent.accept()[0]:  # asked, and never answered
                watch.send_signal(signal.SIGTERM)
                _, told = watch.communicate(timeout=PATIENCE_S)
        finally:
            watch.kill()
            watch.wait()
    assert (watch.returncode, "Traceback" in told, done(results)) == (0, False, {}), told
    assert pcbd(gateway_url, *arguments, "--once").returncode == 0
    assert set(done(results)) == {"1.png", "2.png", "3.png"}


@pytest.mark.parametrize("code", [404, 413, 502])
def test_watch_keeps_pictures_that_a_proxy_refused(gateway_url: str, code: int, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    shutil.copy(BOARD, folder / "1.png")
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0", "--once"]
    with stranger(b"<html>", code) as url:
        refused = pcbd(url, *arguments, "--timeout", "1")
    assert (refused.returncode, str(code) in refused.stderr, done(results)) == (3, True, {}), refused.stderr
    assert pcbd(gateway_url, *arguments).returncode == 0
    assert set(done(results)) == {"1.png"}


def test_watch_tells_a_file_that_cannot_be_read_from_a_gateway_that_is_away(gateway_url: str, tmp_path: Path) -> None:
    folder, results, drawn = tmp_path / "camera", tmp_path / "results.jsonl", tmp_path / "drawn"
    for path in (folder, drawn, drawn / "1.png.png"):
        path.mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(BOARD, folder / name)
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0", "--once"]
    result = pcbd(gateway_url, *arguments, "--annotated", drawn)
    assert (result.returncode, "1.png.png" in result.stderr, set(done(results))) == (2, True, {"2.png"}), result.stderr
    assert pcbd(gateway_url, *arguments).returncode == 0
    assert set(done(results)) == {"1.png", "2.png"}


def test_a_name_in_another_encoding_is_asked_about_once_and_told(tmp_path: Path) -> None:
    """GBK's on a system of UTF-8: what a camera of Windows leaves on a share."""
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    name = os.fsdecode("短路.png".encode("gbk"))
    shutil.copy(BOARD, folder / name)
    watch = ["watch", folder, "--results", results, "--settle", "0", "--once"]
    runs = [watch, watch, ["detect", folder, "--ng-ok"], ["detect", folder, "--ng-ok", "--json"]]
    with stranger(answer_of("a", "short").model_dump_json().encode(), 200, "application/json") as url:
        env = {**os.environ, "PCBD_URL": url, "PYTHONIOENCODING": "utf-8"}  # strict, as in most locales
        told = [
            subprocess.run(
                [*COMMAND, *map(str, run)], cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=False
            )
            for run in runs
        ]
    assert [(run.returncode, run.stderr) for run in told] == [(0, "")] * 4
    first, again, table, line = (run.stdout for run in told)
    assert (len(first.splitlines()), again) == (1, "")
    assert "ng" in table
    assert set(done(results)) == {name}
    assert json.loads(line)["image"] == str(folder / name)


def test_pictures_on_two_drives_need_no_folder_above_them_but_for_annotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        shutil.copy(BOARD, tmp_path / folder / "1.png")
    monkeypatch.setattr(os.path, "commonpath", lambda _: ntpath.commonpath(["C:\\left", "D:\\right"]))
    arguments = ["detect", tmp_path / "left", tmp_path / "right", "--ng-ok"]
    with stranger(answer_of("a", "short").model_dump_json().encode(), 200, "application/json") as url:
        plain = pcbd(url, *arguments)
        drawn = pcbd(url, *arguments, "--annotated", tmp_path / "drawn")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert drawn.returncode == 2
    for word in (str(tmp_path / "left"), str(tmp_path / "right"), "one drive"):
        assert word in drawn.stderr
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}\n',
        "a letter without a line's end",
        '{"a": 1}',
        '{"file": "1.png", "what": "whole, and of something else"}',
        '{"file": "1.png", "size": 3, "mtime_ns": 5, "answer": {}}\na letter',
        '[{"file": "1.png", "size": 3, "mtime_ns": 5}]',
    ],
)
def test_watch_refuses_a_results_file_of_something_else(gateway_url: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(content)
    result = pcbd(gateway_url, "watch", tmp_path, "--results", tmp_path / "other.jsonl", "--once")
    line = content.count("\n", 0, -1) + 1
    assert (result.returncode, f"line {line}" in result.stderr) == (2, True)
    assert (tmp_path / "other.jsonl").read_text() == content


def test_watch_goes_on_with_a_results_file_that_lost_its_last_line_end(gateway_url: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "camera", tmp_path / "results.jsonl"
    folder.mkdir()
    shutil.copy(BOARD, folder / "1.png")
    arguments = ["watch", folder, "-p", "短路", "--results", results, "--settle", "0", "--once"]
    assert pcbd(gateway_url, *arguments).returncode == 0
    first = results.read_text(encoding="utf-8")
    results.write_text(first.rstrip("\n"), encoding="utf-8")
    shutil.copy(BOARD, folder / "2.png")
    assert pcbd(gateway_url, *arguments).returncode == 0
    assert results.read_text(encoding="utf-8").startswith(first)
    assert set(done(results)) == {"1.png", "2.png"}
