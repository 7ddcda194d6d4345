"""Trial 10: a damaged model repository, with the shipped engines: a start names the cause, a promotion is refused.

What was published damaged, with hashes that fit, is tests/export/test_replacement.py's.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from export.contract.promotion import RepositoryError, read_promoted
from export.contract.tensors import MODELS
from export.repository import promote, publish, staging_folder
from export.triton.control import TritonControl
from gateway.up import free_port
from tests.chaos.grounds import Grounds, wait_until
from tests.chaos.load import Load
from tests.chaos.trial import Outcome, Scale
from tests.conftest import REPOSITORY, ROOT

PATIENCE_S = 120.0


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda version: (version / name).write_text(text) and None


def _halved(name: str) -> Callable[[Path], None]:
    return lambda version: (version / name).write_bytes((version / name).read_bytes()[:100_000]) and None


def _removed(pattern: str) -> Callable[[Path], None]:
    return lambda version: next(version.glob(pattern)).unlink()


# What is done to a version of a model; in a start the configuration that Triton reads is damaged in the same way.
CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "weights cut": ("detector", _halved("model.bin")),
    "weights missing": ("prompt_encoder", _removed("model.bin")),
    "graph cut": ("detector", _halved("model.xml")),
    "graph of another kind": ("prompt_encoder", _written("model.xml", "<html/>")),
    "decoder missing": ("generator", _removed("decoder.*")),
    "model.py missing": ("detector", _removed("model.py")),
    "model.py is no Python": ("generator", _written("model.py", "def")),
    "model.py without a model": ("detector", _written("model.py", "x = 1")),
    "model.py that fails": ("prompt_encoder", _written("model.py", "raise OSError('no such engine')")),
    "vocabulary cut": ("generator", _written("vocabulary.json", "[1, 2")),
    "configuration is none": ("detector", _written("config.pbtxt", "name: {")),
    "configuration of another backend": ("prompt_encoder", _written("config.pbtxt", 'backend: "fortran"')),
}


def corrupt(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Twelve kinds of damage."""
    cases = dict(list(CASES.items())[: scale.number(len(CASES), 2)])
    outcome.note("cases", len(cases))
    unnamed = [
        name for number, name in enumerate(cases) if not _is_named_at_start(grounds.folder / f"start-{number}", name)
    ]
    outcome.same("starts_without_a_named_cause", unnamed, [])
    _reload(grounds, cases, outcome)


def _is_named_at_start(folder: Path, case: str) -> bool:
    model, damage = CASES[case]
    repository = Path(shutil.copytree(REPOSITORY, folder / "models", symlinks=True))
    version = repository / model / "1"
    damage(version)
    read_by_triton = repository / model / "config.pbtxt"
    if case.startswith("configuration"):
        read_by_triton.unlink()
        shutil.copy(version / "config.pbtxt", read_by_triton)
    command = [sys.executable, "-m", "export.server", "--model-repository", str(repository)]
    command += [f"--{name}-port={free_port()}" for name in ("http", "grpc", "metrics")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    shutil.rmtree(folder)
    return ended.returncode != 0 and any(model in line and "fail" in line.lower() for line in ended.stderr.splitlines())


def _reload(grounds: Grounds, cases: dict[str, tuple[str, Callable[[Path], None]]], outcome: Outcome) -> None:
    repository = Path(shutil.copytree(REPOSITORY, grounds.folder / "reload" / "models", symlinks=True))
    grpc = free_port()
    command = [sys.executable, "-m", "export.server", "--model-repository", str(repository), f"--grpc-port={grpc}"]
    command += [f"--{name}-port={free_port()}" for name in ("http", "metrics")]
    with (grounds.folder / "reload.log").open("w") as log:
        triton = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    refused = []
    try:
        url = f"127.0.0.1:{grpc}"
        with grounds.gateway(triton_url=url, model_repository=str(repository)) as gateway:
            load, served = Load(gateway.url), read_promoted(repository)
            with load.running(1):
                for name, (model, damage) in cases.items():
                    number = _publish_again(repository)
                    damage(repository / model / str(number))
                    try:
                        promote(repository, number, TritonControl(url))
                    except RepositoryError as error:
                        refused += [name] * (f"{model}/{number}" in str(error))
                    answered = len(load.answers)
                    wait_until(lambda enough=answered + 2: len(load.answers) >= enough, "further answers")
            outcome.same("promotions_not_refused_by_name", [name for name in cases if name not in refused], [])
            outcome.same("served_afterwards", read_promoted(repository), served)
            outcome.same("answers", sorted(load.statuses()), ["200"])
    finally:
        triton.kill()
        triton.wait()


def _publish_again(repository: Path) -> int:
    """Version 1 once more, whole."""
    staging = staging_folder(repository)
    for spec in MODELS:
        unwanted = shutil.ignore_patterns("manifest.json", "__pycache__")
        shutil.copytree(repository / spec.name / "1", staging / spec.name, dirs_exist_ok=True, ignore=unwanted)
    configs = {spec.name: (staging / spec.name / "config.pbtxt").read_text() for spec in MODELS}
    return publish(repository, staging, configs, {})
