"""Trial 10: a damaged model repository, with the shipped engines: a start names the cause, a promotion is refused.

A promotion is refused twice: by the hashes of what was published, and for its cause where the hashes fit, as those of
a build that was damaged itself do.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.contract.files import sha256_of
from export.contract.promotion import RepositoryError, read_promoted
from export.contract.tensors import MODELS
from export.contract.versions import MANIFEST, read_manifest
from export.repository import promote, publish, staging_folder
from export.triton.control import TritonControl
from gateway.parent import stop_with_parent
from gateway.settings import Settings
from gateway.up import free_port
from tests.chaos.grounds import Grounds, wait_until
from tests.chaos.load import Load
from tests.chaos.trial import Outcome, Scale
from tests.conftest import REPOSITORY, ROOT

PATIENCE_S = 120.0
OWN_OF_A_VERSION = {"model", "version", "created", "files"}  # in its manifest; the rest is what it was made from
DEADLINE_S = 60.0  # a request waits while a model is at neither version, which a busy machine makes long
SLOWEST_S = Settings().deadline_s


@dataclass(frozen=True)
class Case:
    """What is done to a version of a model, and a pattern of the words that name it as the cause."""

    model: str
    damage: Callable[[Path], None]
    cause: str
    is_promoted: bool = True  # with hashes that fit


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda version: (version / name).write_text(text) and None


def _halved(name: str) -> Callable[[Path], None]:
    return lambda version: (version / name).write_bytes((version / name).read_bytes()[:100_000]) and None


def _removed(pattern: str) -> Callable[[Path], None]:
    return lambda version: next(version.glob(pattern)).unlink()


# In a start the configuration that Triton reads is damaged in the same way.
CASES = {
    "weights cut": Case("detector", _halved("model.bin"), "Incorrect weights in bin file"),
    "weights missing": Case("prompt_encoder", _removed("model.bin"), "bin file cannot be found"),
    "graph cut": Case("detector", _halved("model.xml"), "tags mismatch"),
    "graph of another kind": Case("prompt_encoder", _written("model.xml", "<html/>"), "Unable to read the model"),
    "decoder missing": Case("generator", _removed("decoder.*"), "holds no engine, expected one of decoder"),
    # Triton waits for an instance that died: a start is ended by its launcher, a promotion only after LOAD_TIMEOUT_S.
    "model.py missing": Case("detector", _removed("model.py"), "Python model file not found", is_promoted=False),
    "model.py is no Python": Case("generator", _written("model.py", "def"), "SyntaxError"),
    "model.py without a model": Case("detector", _written("model.py", "x = 1"), "no attribute 'TritonPythonModel'"),
    "model.py that fails": Case(
        "prompt_encoder", _written("model.py", "raise OSError('no engine')"), "OSError: no engine"
    ),
    "vocabulary cut": Case("generator", _written("vocabulary.json", "[1, 2"), "is not the vocabulary of a generator"),
    "configuration is none": Case(
        "detector", _written("config.pbtxt", "name: {"), "failed to read text proto|config.pbtxt cannot be read"
    ),
    "configuration of another backend": Case(
        "prompt_encoder", _written("config.pbtxt", 'backend: "fortran"'), "backend 'fortran'"
    ),
}


def corrupt(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Twelve kinds of damage."""
    cases = dict(list(CASES.items())[: scale.number(len(CASES), 2)])
    outcome.note("cases", len(cases))
    said = {
        name: start_of(grounds.folder / f"start-{number}", case) for number, (name, case) in enumerate(cases.items())
    }
    unnamed = {name: text[-2000:] for name, text in said.items() if not names_cause(text, cases[name])}
    outcome.same("starts_without_a_named_cause", unnamed, {})
    _promote(grounds, cases, outcome)


def names_cause(said: str, case: Case) -> bool:
    """Whether a line of what was said names the model and the cause."""
    return any(case.model in line and re.search(case.cause, line) for line in said.splitlines())


def start_of(folder: Path, case: Case) -> str:
    """What a start says that fails; nothing where it does not end, or ends well."""
    repository = Path(shutil.copytree(REPOSITORY, folder / "models", symlinks=True))
    version, read_by_triton = repository / case.model / "1", repository / case.model / "config.pbtxt"
    configuration = (version / "config.pbtxt").read_bytes()
    case.damage(version)
    if (version / "config.pbtxt").read_bytes() != configuration:
        read_by_triton.unlink()
        shutil.copy(version / "config.pbtxt", read_by_triton)
    with _launched(repository, folder / "log") as (launcher, _):
        try:
            code = launcher.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return ""
    said = (folder / "log").read_text()
    shutil.rmtree(folder)
    return said if code else ""


def _promote(grounds: Grounds, cases: dict[str, Case], outcome: Outcome) -> None:
    repository = Path(shutil.copytree(REPOSITORY, grounds.folder / "promoted" / "models", symlinks=True))
    by_hash: dict[str, str] = {}
    by_cause: dict[str, str] = {}
    not_as_before: list[str] = []
    with (
        _launched(repository, grounds.folder / "promoted" / "log") as (_, url),
        grounds.gateway(triton_url=url, model_repository=str(repository), deadline_s=str(DEADLINE_S)) as gateway,
    ):
        load, triton = Load(gateway.url), TritonControl(url)
        before = read_promoted(repository), triton.loaded()
        with load.running(1):
            for name, case in cases.items():
                number = publish_again(repository)
                version = repository / case.model / str(number)
                case.damage(version)
                by_hash[name] = refusal(repository, number, triton)
                fit_hashes(version)
                if case.is_promoted:
                    by_cause[name] = refusal(repository, number, triton)
                not_as_before += [name] * ((read_promoted(repository), triton.loaded()) != before)
                answered = len(load.answers)
                wait_until(lambda enough=answered + 2: len(load.answers) >= enough, "further answers")
        outcome.same("not_as_before", not_as_before, [])
        outcome.same("answers", dict(load.statuses()), {"200": len(load.answers)})
        outcome.quick("slowest_answer_s", load.slowest_s(), SLOWEST_S)
    changed = {n for n, said in by_hash.items() if cases[n].model in said and "missing or changed" in said}
    outcome.same("changed_files_not_refused", sorted(by_hash.keys() - changed), [])
    outcome.note("promoted_with_hashes_that_fit", len(by_cause))
    unnamed = {name: said for name, said in by_cause.items() if not names_cause(said, cases[name])}
    outcome.same("refused_without_a_named_cause", unnamed, {})


@contextmanager
def _launched(repository: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Triton that starts before that repository, and HOST:PORT of its gRPC service."""
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    command = [sys.executable, "-m", "export.server", "--model-repository", str(repository)]
    command += [f"--{name}-port={port}" for name, port in ports.items()]
    with log.open("wb") as told:
        launcher = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told, preexec_fn=stop_with_parent)
    try:
        yield launcher, f"127.0.0.1:{ports['grpc']}"
    finally:
        launcher.terminate()  # killed it would leave Triton's shared memory behind
        try:
            launcher.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


def publish_again(repository: Path) -> int:
    """Version 1 once more, whole; its number."""
    staging = staging_folder(repository)
    for spec in MODELS:
        unwanted = shutil.ignore_patterns(MANIFEST, "__pycache__")
        shutil.copytree(repository / spec.name / "1", staging / spec.name, dirs_exist_ok=True, ignore=unwanted)
    configs = {spec.name: (staging / spec.name / "config.pbtxt").read_text() for spec in MODELS}
    manifest = read_manifest(repository, MODELS[0].name, 1)
    made_from = {name: value for name, value in manifest.items() if name not in OWN_OF_A_VERSION}
    return publish(repository, staging, configs, made_from)


def fit_hashes(version: Path) -> None:
    """Writes into a version's manifest the hashes that its files have now."""
    manifest = read_manifest(version.parent.parent, version.parent.name, int(version.name))
    manifest["files"] = {name: sha256_of(version / name) for name in manifest["files"] if (version / name).exists()}
    (version / MANIFEST).write_text(json.dumps(manifest))


def refusal(repository: Path, number: int, triton: TritonControl) -> str:
    """What is said where a version is not promoted; nothing where it is."""
    try:
        promote(repository, number, triton)
    except RepositoryError as error:
        return str(error)
    return ""
