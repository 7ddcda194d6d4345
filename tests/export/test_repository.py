"""Versions on the disk: published, promoted, rolled back and pruned, whole or not at all."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import repository as repository_module
from export.contract.files import sha256_of
from export.contract.promotion import RepositoryError, read_promoted
from export.contract.tensors import GENERATOR, MODELS, graphs
from export.contract.versions import LOCK, check_whole, published, sole_writer, versions
from export.repository import clear_staging, describe, held_staging, promote, prune, publish, rollback, staging_folder
from export.runtime.error import EngineError
from export.triton.config import read_config
from tests.conftest import ROOT, run_module


def configs(checkpoint: str) -> dict[str, str]:
    return {
        spec.name: f'name: "{spec.name}" backend: "python" version_policy {{ latest {{ num_versions: 1 }} }}\n'
        f'parameters {{ key: "checkpoint_name" value {{ string_value: "{checkpoint}" }} }}\n'
        for spec in MODELS
    }


def staged(repository: Path, content: str) -> Path:
    return filled(staging_folder(repository), content)


def filled(staging: Path, content: str) -> Path:
    for spec in MODELS:
        for graph in graphs(spec):
            (staging / spec.name / f"{graph}.onnx").write_text(content)
    return staging


def engine_of(repository: Path, model: str, version: int) -> Path:
    return min((repository / model / str(version)).glob("*.onnx"))


def beside(repository: Path) -> set[Path]:
    """What lies beside a repository but for the locks."""
    return {path for path in repository.parent.iterdir() if path != repository and path.suffix != LOCK}


def publish_one(repository: Path, content: str) -> int:
    manifest = {"checkpoint_name": content, "precision": "fp32", "target": "onnxruntime"}
    return publish(repository, staged(repository, content), configs(content), manifest)


def served(repository: Path) -> tuple[int, str]:
    """What Triton would read: the version that all models are pinned to, and the checkpoint named beside it."""
    read = set()
    for spec in MODELS:
        config = text_format.Parse((repository / spec.name / "config.pbtxt").read_text(), pb.ModelConfig())
        (version,) = config.version_policy.specific.versions
        checkpoint = config.parameters["checkpoint_name"].string_value
        assert engine_of(repository, spec.name, version).read_text() == checkpoint
        read.add((version, checkpoint))
    (one,) = read
    return one


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Versions 1 to 4 of the checkpoints a to d; the first is served."""
    for content in "abcd":
        publish_one(tmp_path / "models", content)
    return tmp_path / "models"


def test_publish_numbers_versions_and_keeps_the_old_ones(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    assert [publish_one(repository, text) for text in ("a", "b")] == [1, 2]
    for spec in MODELS:
        assert versions(repository, spec.name) == [1, 2]
        assert engine_of(repository, spec.name, 1).read_text() == "a"
        assert engine_of(repository, spec.name, 2).read_text() == "b"


def test_publish_serves_the_first_version_and_leaves_later_ones_to_a_promotion(tmp_path: Path) -> None:
    publish_one(tmp_path / "models", "a")
    assert served(tmp_path / "models") == (1, "a")
    publish_one(tmp_path / "models", "b")
    assert served(tmp_path / "models") == (1, "a")


@pytest.mark.parametrize("lost", [(3,), (1, 2, 3)])
def test_a_version_takes_the_place_of_a_served_one_that_is_lost(lost: tuple[int, ...], tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for content in "abc":
        publish_one(repository, content)
    promote(repository, 3)
    for spec in MODELS:
        for number in lost:
            shutil.rmtree(repository / spec.name / str(number))
    assert publish_one(repository, "d") == 4, "a number never comes again"
    assert served(repository) == (4, "d")
    assert read_promoted(repository) == (*{1} - {*lost}, 4)


def test_publish_records_the_hash_of_every_file(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish_one(repository, "a")
    folder = repository / MODELS[0].name / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["precision"] == "fp32"
    names = ("config.pbtxt", "model.onnx", "model.py")
    assert manifest["files"] == {name: sha256_of(folder / name) for name in names}


def test_publish_adds_python_only_to_models_of_the_python_backend(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    first, *others = (spec.name for spec in MODELS)
    plans = configs("a") | {first: f'name: "{first}" platform: "tensorrt_plan"\n'}
    publish(repository, staged(repository, "a"), plans, {})
    assert not (repository / first / "1" / "model.py").exists()
    assert all((repository / name / "1" / "model.py").exists() for name in others)


def test_nothing_but_models_is_left_in_the_repository(repository: Path) -> None:
    assert {path.name for path in repository.iterdir()} == {spec.name for spec in MODELS}
    assert beside(repository) == set()


def test_builds_at_the_same_time_do_not_mix_their_files(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    with held_staging(repository) as one, held_staging(repository) as other:
        filled(one, "a")
        filled(other, "b")
        assert publish(repository, one, configs("a"), {}) == 1
        assert publish(repository, other, configs("b"), {}) == 2
    for spec in MODELS:
        for graph in graphs(spec):
            assert [(repository / spec.name / n / f"{graph}.onnx").read_text() for n in ("1", "2")] == ["a", "b"]
    assert beside(repository) == set()


def test_what_was_built_is_published_when_the_command_that_holds_the_repository_has_ended(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, lock = threading.Event(), fcntl.flock

    def tell_and_lock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            waits.set()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", tell_and_lock)
    with ThreadPoolExecutor(1) as pool:
        with sole_writer(repository):
            publishing = pool.submit(publish_one, repository, "e")
            publishing.add_done_callback(lambda _: waits.set())
            waits.wait()
        assert publishing.result() == 5


def test_a_build_that_fails_leaves_no_staging_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError), held_staging(tmp_path / "models") as staging:
        publish(tmp_path / "models", staging, configs("a"), {})  # which is empty
    assert {path.name for path in tmp_path.iterdir()} == {".models.staging.lock"}


def test_what_a_killed_build_left_goes_and_what_a_build_is_at_work_in_stays(repository: Path) -> None:
    staged(repository, "killed")
    with held_staging(repository) as working:
        assert beside(repository) == {working}
        staged(repository, "killed")
        prune(repository, 4)
        assert beside(repository) == {working}
    assert beside(repository) == set()


def test_a_staging_folder_that_is_not_held_yet_is_not_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clearing: list[Future[None]] = []

    def make(repository: Path) -> Path:
        folder = staging_folder(repository)
        clearing.append(pool.submit(clear_staging, repository))
        wait(clearing, timeout=0.5)  # nothing would keep it from ending
        return folder

    monkeypatch.setattr(repository_module, "staging_folder", make)
    with ThreadPoolExecutor(1) as pool, held_staging(tmp_path / "models") as working:
        clearing[0].result()
        assert filled(working, "a").is_dir()


def test_a_staging_folder_that_cannot_be_cleared_is_named_and_ends_nothing(repository: Path) -> None:
    """Such as another user's, which nobody else may look into; here what should be its lock is a folder."""
    left = repository.with_name(".models.staging-another")
    (left / LOCK).mkdir(parents=True)
    result = run_module("export.repository", "prune", "--keep", "1", "--repository", str(repository))
    assert (result.returncode, str(left) in result.stderr, "Traceback" in result.stderr) == (0, True, False)
    assert published(repository) == [1, 4]
    with held_staging(repository) as working:
        assert beside(repository) == {left, working}


def test_locks_are_of_files_that_are_open_for_writing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS, on which several machines may share a repository, has no others."""
    locked = []
    lock = fcntl.flock

    def look_and_lock(descriptor: int, operation: int) -> None:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        locked.append((stat.S_ISREG(os.fstat(descriptor).st_mode), mode == os.O_RDWR))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_and_lock)
    promote(repository, 2)
    assert len(locked) == 1
    with held_staging(repository):
        prune(repository, 4)
    assert len(locked) > 4
    assert set(locked) == {(True, True)}


def test_a_lock_of_one_user_is_one_of_all_who_may_write_there(repository: Path) -> None:
    locks = list(repository.parent.glob(f".*{LOCK}"))
    assert [stat.S_IMODE(lock.stat().st_mode) for lock in locks] == [0o666]


def test_a_repository_whose_lock_cannot_be_held_is_named_and_stays(repository: Path) -> None:
    lock = repository.with_name(f".models{LOCK}")
    lock.unlink()
    lock.mkdir()
    result = run_module("export.repository", "promote", "2", "--repository", str(repository))
    assert (result.returncode, str(lock) in result.stderr, "Traceback" in result.stderr) == (1, True, False)
    assert served(repository) == (1, "a")


def test_a_repository_that_is_a_mount_point_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside it, the lock and what is built, would be on another file system, which others do not see."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path == repository.resolve())
    with pytest.raises(RepositoryError, match="mount the folder above it"):
        promote(repository, 2)
    with pytest.raises(RepositoryError, match="mount the folder above it"), held_staging(repository):
        pytest.fail("something may be built")
    assert served(repository) == (1, "a")


def test_a_file_that_cannot_be_written_is_named(repository: Path) -> None:
    blocked = repository / MODELS[0].name / "configs" / "served.partial"
    blocked.mkdir()
    result = run_module("export.repository", "promote", "2", "--repository", str(repository))
    assert (result.returncode, str(blocked) in result.stderr, "Traceback" in result.stderr) == (1, True, False)
    assert served(repository) == (1, "a")


def test_a_model_that_lacks_an_engine_is_not_published(repository: Path) -> None:
    staging = staged(repository, "e")
    (staging / GENERATOR.name / "decoder.onnx").unlink()
    with pytest.raises(EngineError, match=r"generator.*decoder\.onnx"):
        publish(repository, staging, configs("e"), {})
    assert published(repository) == [1, 2, 3, 4]


@pytest.mark.parametrize("content", ['{"model": "detector", "fil', "[]", "{}"])
def test_a_manifest_that_cannot_be_read_is_named(content: str, repository: Path) -> None:
    manifest = repository / MODELS[0].name / "2" / "manifest.json"
    manifest.write_text(content)
    for command in (["list"], ["promote", "2"]):
        result = run_module("export.repository", *command, "--repository", str(repository))
        assert (result.returncode, str(manifest) in result.stderr, "Traceback" in result.stderr) == (1, True, False)
    assert served(repository) == (1, "a")


def test_a_failure_half_way_leaves_no_version(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    staging = staged(repository, "a")
    repository.mkdir()
    (repository / MODELS[-1].name).write_text("a file where a folder should be")
    with pytest.raises(OSError, match=MODELS[-1].name):
        publish(repository, staging, configs("a"), {})
    assert all(versions(repository, spec.name) == [] for spec in MODELS)


def test_promote_serves_a_version_with_its_own_parameters(repository: Path) -> None:
    promote(repository, 3)
    assert served(repository) == (3, "c")
    promote(repository, 2)
    assert served(repository) == (2, "b")


def test_rollback_walks_back_through_what_was_promoted(repository: Path) -> None:
    for number in (3, 2, 4, 2):
        promote(repository, number)
    walked = [rollback(repository) for _ in range(3)]
    assert walked == [4, 3, 1]
    assert served(repository) == (1, "a")
    with pytest.raises(RepositoryError, match="1, 2, 3, 4"):
        rollback(repository)
    assert served(repository) == (1, "a")


def test_an_unknown_version_names_those_there_are(repository: Path) -> None:
    with pytest.raises(RepositoryError, match=r"version 7.*1, 2, 3, 4"):
        promote(repository, 7)
    assert served(repository) == (1, "a")


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_version_is_not_promoted(fault: str, repository: Path) -> None:
    engine = engine_of(repository, MODELS[-1].name, 2)
    engine.write_text("x") if fault == "changed" else engine.unlink()
    with pytest.raises(RepositoryError, match=str(engine)):
        promote(repository, 2)
    assert served(repository) == (1, "a")


def test_a_version_that_not_all_models_have_is_none(repository: Path) -> None:
    shutil.rmtree(repository / MODELS[-1].name / "4")
    assert published(repository) == [1, 2, 3]
    with pytest.raises(RepositoryError, match="version 4"):
        promote(repository, 4)
    assert publish_one(repository, "e") == 5, "a number never comes again"


def test_prune_keeps_the_newest_the_served_and_the_one_to_return_to(repository: Path) -> None:
    promote(repository, 2)  # from 1
    publish_one(repository, "e")
    assert prune(repository, 1) == [3, 4]
    assert published(repository) == [1, 2, 5]
    assert rollback(repository) == 1
    assert prune(repository, 1) == [2]
    assert served(repository) == (1, "a")
    assert prune(repository, 1) == []


def test_rollback_passes_over_what_was_pruned(repository: Path) -> None:
    for number in (2, 3, 4):
        promote(repository, number)
    assert prune(repository, 2) == [1, 2]
    assert rollback(repository) == 3
    with pytest.raises(RepositoryError, match="no version to return to"):
        rollback(repository)


def test_prune_clears_away_what_a_killed_command_left(repository: Path) -> None:
    shutil.rmtree(repository / MODELS[0].name / "3")
    assert prune(repository, 4) == [3]
    assert {path.name for path in (repository / MODELS[-1].name).iterdir()} == {"1", "2", "4", "config.pbtxt"}


def test_a_version_is_out_of_its_model_before_it_is_deleted(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton that polls would take what is left of it for a change of the model, and load it anew."""
    deleted, rmtree = list[Path](), shutil.rmtree

    def look_and_delete(folder: Path, ignore_errors: bool = False) -> None:
        deleted.append(folder)
        rmtree(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", look_and_delete)
    assert prune(repository, 1) == [2, 3]
    assert [folder.parent for folder in deleted] == [repository.parent]


def test_prune_refuses_to_keep_nothing(repository: Path) -> None:
    with pytest.raises(RepositoryError, match="at least 1"):
        prune(repository, 0)
    assert published(repository) == [1, 2, 3, 4]


def test_only_one_command_changes_a_repository(repository: Path) -> None:
    with sole_writer(repository), pytest.raises(RepositoryError, match="another command"):
        promote(repository, 2)
    promote(repository, 2)


def test_a_configuration_that_is_a_file_becomes_the_link(repository: Path) -> None:
    for spec in MODELS:
        config = repository / spec.name / "config.pbtxt"
        config.unlink()
        config.write_text("of before there were promotions")
    promote(repository, 2)
    assert served(repository) == (2, "b")


def test_a_repository_copied_without_its_links_is_refused(repository: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=False)
    with pytest.raises(RepositoryError, match="cp -a"):
        promote(copy, 2)
    assert served(copy) == (1, "a")
    moved = shutil.copytree(repository, tmp_path / "moved", symlinks=True)
    promote(moved, 2)
    assert (served(moved), served(repository)) == ((2, "b"), (1, "a"))


def test_a_state_that_cannot_be_read_is_named(repository: Path) -> None:
    state = repository / MODELS[0].name / "configs" / "served" / "promoted.json"
    state.write_text("{}")
    with pytest.raises(RepositoryError, match=r"promoted\.json"):
        read_promoted(repository)


def test_describe_says_what_a_version_is_and_whether_it_is_used(repository: Path) -> None:
    promote(repository, 3)
    rows = describe(repository)
    assert [(row.version, row.checkpoint, row.active) for row in rows] == [
        (1, "a", "rollback"),
        (2, "b", ""),
        (3, "c", "served"),
        (4, "d", ""),
    ]
    assert (rows[0].precision, rows[0].target) == ("fp32", "onnxruntime")


KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from export.repository import promote, prune, rollback
from tests.export.test_repository import publish_one

COMMANDS = {
    "publish": lambda repository: publish_one(repository, "e"),
    "promote": lambda repository: promote(repository, 4),
    "rollback": rollback,
    "prune": lambda repository: prune(repository, 1),
}
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
source, out = map(Path, sys.argv[1:])
for name, command in COMMANDS.items():
    for survived in itertools.count():
        repository = out / f"{name}-{survived}" / "models"
        shutil.copytree(source, repository, symlinks=True)
        child = os.fork()
        if child == 0:
            left = survived

            def die(event, arguments):
                global left
                written = event == "open" and arguments[2] & os.O_ACCMODE != os.O_RDONLY
                if event in CHANGES or written and str(out) in str(arguments[0]):
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1

            sys.addaudithook(die)
            command(repository)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


def test_a_repository_is_whole_wherever_a_command_is_killed(repository: Path, tmp_path: Path) -> None:
    """Each command gets a SIGKILL before its first change to a file or folder, before its second, and so on."""
    promote(repository, 3)
    command = [sys.executable, "-c", KILLED, str(repository), str(tmp_path / "killed")]
    subprocess.run(command, cwd=ROOT, check=True)
    killed = sorted((tmp_path / "killed").glob("*/models"))
    counts = Counter(path.parent.name.partition("-")[0] for path in killed)
    assert min(counts[name] for name in ("publish", "promote", "rollback", "prune")) > 5, counts
    seen = {name: set() for name in counts}
    for copy in killed:
        version, checkpoint = served(copy)
        for number in published(copy):
            check_whole(copy, number)
        assert version in published(copy)
        assert read_promoted(copy)[-1] == version
        seen[copy.parent.name.partition("-")[0]].add(version)
        newest = publish_one(copy, "next")
        promote(copy, newest)
        assert rollback(copy) == version
        prune(copy, 1)
        assert served(copy) == (version, checkpoint)
        assert published(copy)[-1] == newest
        assert not [path for spec in MODELS for path in (copy / spec.name).glob(".*")]
        assert beside(copy) == set()
    assert seen == {"publish": {3}, "promote": {3, 4}, "rollback": {3, 1}, "prune": {3}}


def test_the_commands_say_what_they_did(repository: Path) -> None:
    def run(*arguments: str) -> str:
        result = run_module("export.repository", *arguments, "--repository", str(repository))
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "version 2" in run("promote", "2")
    assert "version 1" in run("rollback")
    assert "2, 3" in run("prune", "--keep", "1")
    assert [row["active"] for row in json.loads(run("list", "--json"))] == ["served", ""]
    header, first, second = run("list").splitlines()
    assert header.split() == ["version", "created", "checkpoint", "precision", "target", "active"]
    assert (first.split()[0], first.split()[-1], second.split()[0]) == ("1", "served", "4")


def test_a_fault_ends_the_command_with_1(tmp_path: Path) -> None:
    result = run_module("export.repository", "list", "--repository", str(tmp_path / "nowhere"))
    assert (result.returncode, "nowhere" in result.stderr) == (1, True)


def test_the_commands_do_without_torch() -> None:
    source = "import sys, export.repository; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0


def test_versions_beside_the_promoted_one_are_served_with_their_own_parameters(repository: Path) -> None:
    promote(repository, 2, beside=[4, 1])
    config = read_config((repository / "detector" / "config.pbtxt").read_text())
    assert list(config.version_policy.specific.versions) == [2, 1, 4]
    names = {name: value.string_value for name, value in config.parameters.items()}
    assert names == {"version": "2", "checkpoint_name": "b", "checkpoint_name@1": "a", "checkpoint_name@4": "d"}
    assert [row.active for row in describe(repository)] == ["beside", "served", "", "beside"]
    assert prune(repository, keep=1) == [3]
    rollback(repository)
    assert served(repository) == (1, "a")  # and nothing beside it


def test_a_version_of_another_configuration_cannot_be_served_beside(repository: Path) -> None:
    others = {model: text + "max_batch_size: 4\n" for model, text in configs("e").items()}
    publish(repository, staged(repository, "e"), others, {"checkpoint_name": "e"})
    with pytest.raises(RepositoryError, match="cannot be served beside"):
        promote(repository, 1, beside=[5])
    assert served(repository) == (1, "a")
    promote(repository, 5)
    assert served(repository) == (5, "e")
