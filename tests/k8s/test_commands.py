"""Every command in a manifest is one of this repository, and its own parser takes its arguments."""

import argparse
import importlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from export.contract.promotion import read_beside, read_promoted
from export.contract.tensors import MODELS
from export.repository import promote, publish, staging_folder
from export.server import TritonServer
from gateway.up import free_port
from tests.conftest import REPOSITORY, ROOT
from tests.k8s.manifests import K8S, Object, pods, render

RUN = "retraining-29400000"
SEVERAL_PODS = r"deploy\w*/|job/training"
OTHER_PROGRAMS = {"sleep", "rclone", "tritonserver"}
BESIDE = K8S / "jobs" / "retraining" / "beside.sh"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTLE = ROOT / "training" / "configs" / "pcb_settle.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
TOLD = [  # `repository` is an alias there
    shlex.split(command)
    for command in re.findall(
        r"python3? -m ((?:gateway|export|training)[^`'\n]+)",
        PAGE.replace("\nrepository ", "\npython3 -m export.repository "),
    )
    if " " in command
]


class ParsedError(Exception):
    """What a command's own parser made of its arguments, instead of running it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.arguments = arguments


@pytest.fixture
def commands(overlays: dict[str, list[Object]]) -> dict[str, list[str]]:
    """What each container runs, by overlay, workload and container; `RUN` is filled in as Kubernetes does."""
    everything = {**overlays, "training": render(K8S / "jobs" / "training")}
    return {
        f"{name}: {pod.name}, {each['name']}": [
            word.replace("$(RUN)", RUN) for word in [*each["command"], *each.get("args", [])]
        ]
        for name, objects in everything.items()
        for pod in pods(objects)
        for each in pod.containers
    }


def modules(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The modules that a command runs, with their arguments; those in a line for a shell too."""
    program = Path(words[0]).name if words else ""
    if program == "sh" and words[1] == "-c":
        for part in re.split(r"\|\||&&|;|\n", words[2]):
            yield from modules(shlex.split(part.strip().removeprefix("exec ")))
    elif program in ("python", "python3"):
        assert words[1] == "-m"
        yield words[2], list(words[3:])
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        given = get_args_parser().parse_args(words[1:])
        assert given.module
        yield given.training_script, given.training_script_args


def parse(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Runs a command until its own parser has taken, or refused, its arguments."""
    really = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> argparse.Namespace:  # noqa: ANN401
        raise ParsedError(really(parser, *given, **named))

    is_package = (ROOT / module.replace(".", "/")).is_dir()
    main = importlib.import_module(f"{module}.__main__" if is_package else module).main
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(ParsedError) as parsed:
            main()
    return parsed.value.arguments


def test_commands_take_their_arguments(commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from training.config import read_config

    seen = set()
    for name, words in commands.items():
        calls = list(modules(words))
        assert calls or words[0] in OTHER_PROGRAMS | {"sh"}, f"{name} runs {words}"
        for module, arguments in calls:
            seen.add(module)
            if module == "gateway":  # takes its settings from variables, which a policy checks
                assert arguments == []
                continue
            given = parse(module, arguments, monkeypatch)
            if module == "training.train":
                read_config(ROOT / given.config, given.overrides)
    assert seen == {
        "gateway",
        "gateway.review",
        "training.train",
        "training.evaluate",
        "training.calibrate",
        "export.build",
        "export.server",
    }


def test_retraining_learns_no_faster_than_what_kept_the_old_classes(
    commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.config import read_config

    ((module, arguments),) = modules(commands["production: CronJob retraining, train"])
    given = parse(module, arguments, monkeypatch)
    own, kept = read_config(ROOT / given.config, given.overrides), read_config(SETTLE, [])
    assert own.train.lr <= kept.train.lr
    assert own.train.matrix_lr <= kept.train.matrix_lr


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("export.build", ["--checkpoints", "c"]), ("gateway.review", ["export", "--into", "d"])],
)
def test_renamed_option_is_refused(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        parse(module, arguments, monkeypatch)


@pytest.mark.parametrize("command", TOLD, ids=shlex.join)
def test_command_that_the_page_tells_is_one(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse(command[0], command[1:], monkeypatch)


def test_page_tells_commands() -> None:
    assert {command[1] for command in TOLD} == {"create", "list", "promote", "rollback"}


def test_page_tells_the_places_of_the_training_job(commands: dict[str, list[str]]) -> None:
    places = re.findall(r"/training/[^\s}]+", "\n".join(commands["training: Job training, training"]))
    assert places
    assert [place for place in places if f"`{place}`" not in PAGE] == []


def test_logs_that_pages_ask_for_are_those_of_every_pod() -> None:
    """Of a Deployment, or of the Job that trains in several pods, kubectl takes any one otherwise."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    told = [each for each in re.findall(r"kubectl [^`\n]*\blogs [^`\n]*", text) if re.search(SEVERAL_PODS, each)]
    assert told
    assert [each for each in told if "--all-pods" not in each] == []


def test_command_for_a_container_without_ss_counts_the_connections_of_each_client() -> None:
    script = RUNBOOK.read_text(encoding="utf-8").partition("python - << 'END'\n")[2].partition("\nEND\n")[0]
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as clients:
        ours = f":{server.getsockname()[1]:04X}"
        assert script.count(":1F90") == 1  # 8080
        for source in ("127.0.0.2", "127.0.0.1", "127.0.0.1"):
            clients.enter_context(socket.create_connection(server.getsockname(), source_address=(source, 0)))
            clients.enter_context(server.accept()[0])
        command = [sys.executable, "-c", script.replace(":1F90", ours)]
        counted = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert counted == "2 127.0.0.1\n1 127.0.0.2\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The shipped repository with a second version that is a canary, and a third that is not served."""
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("canary", "retrained"):
        staging = staging_folder(copy)
        configs = {}
        for spec in MODELS:
            shutil.copytree(
                copy / spec.name / "1",
                staging / spec.name,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("manifest.json"),
            )
            configs[spec.name] = (copy / spec.name / "1" / "config.pbtxt").read_text(encoding="utf-8")
        publish(copy, staging, configs, {"checkpoint_name": name})
    promote(copy, 1, beside=[2])
    return copy


def test_retrained_version_comes_beside_the_promoted_one_and_its_canary(
    commands: dict[str, list[str]], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, _, *arguments = commands["production: CronJob retraining, beside"]
    assert (shell, arguments.pop(1), arguments.pop()) == ("sh", "/models/repository", "triton:8001")
    assert arguments.pop() == "--triton"  # left out: files alone change
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    done = subprocess.run(
        [shell, str(BESIDE), *arguments, str(repository)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (read_promoted(repository), read_beside(repository)) == ((1,), (2, 3))


def test_triton_knows_the_options_of_production(commands: dict[str, list[str]], tmp_path: Path) -> None:
    program, *options = commands["production: Deployment triton, triton"]
    assert program == "tritonserver"
    # It takes the first repository that it is given, an empty one; what polls it does without models, too.
    with TritonServer(
        tmp_path, http_port=free_port(), grpc_port=free_port(), metrics_port=free_port(), options=options[1:]
    ) as server:
        assert server.is_ready()
