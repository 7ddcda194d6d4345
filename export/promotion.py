"""Which version a repository serves: one symbolic link, so that all models change at once.

Triton reads a config.pbtxt in each model's folder, and no file system renames three files together. Here each of
them is a link that leads through one and the same other link:

    detector/config.pbtxt          -> configs/served/detector.pbtxt
    prompt_encoder/config.pbtxt    -> ../detector/configs/served/prompt_encoder.pbtxt
    detector/configs/served        -> 7
    detector/configs/7/               detector.pbtxt, prompt_encoder.pbtxt, promoted.json

A promotion writes folder 8, then renames a new `served` over the old one: before that rename all models are at the
former version, after it all are at the new one, wherever the process is killed. Kubernetes switches a mounted
ConfigMap in the same way. A state file would be written by one rename as well, but three more would have to follow
it, and a Triton that starts between them would serve a mixture until somebody repairs it.

The configurations are those that a version was published with, the checkpoint's parameters among them, pinned to
the version by their version policy; so the gateway reads the parameters of what is served, after a rollback too.
`configs` is the one folder beside its versions that Triton expects in a model and does not take for a version.
Links need a file system: cloud storage cannot hold such a repository. Knows nothing of a running Triton.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.contract.tensors import MODELS
from export.files import sync

CONFIG = "config.pbtxt"
STATE = "promoted.json"
SERVED = "served"


class RepositoryError(RuntimeError):
    """A model repository is not what a command needs, or Triton does not follow it."""


def read_promoted(repository: Path) -> tuple[int, ...]:
    """The versions that were promoted, in that order; the last one is served, none at all before the first.

    Raises:
        RepositoryError: the state is there and cannot be read.
    """
    state = _home(repository) / SERVED / STATE
    try:
        return tuple(json.loads(state.read_text(encoding="utf-8"))["promoted"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(
            f"{state} cannot be read ({error!r}), expected the numbers of the versions that were promoted; "
            f"delete {_home(repository)} and promote a version"
        ) from error


def write_promoted(repository: Path, promoted: Sequence[int]) -> None:
    """Makes the last of `promoted` the served version of all models, and remembers the others.

    Raises:
        RepositoryError: a version's configuration cannot be read, or the repository has lost its links.
    """
    home = _home(repository)
    home.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
    folder = home / str(1 + max(numbers, default=0))
    configs = {spec.name: _pinned(repository / spec.name / str(promoted[-1]), promoted[-1]) for spec in MODELS}
    folder.mkdir()
    for model, config in configs.items():
        _config_file(folder, model).write_text(config, encoding="utf-8")
    (folder / STATE).write_text(json.dumps({"promoted": list(promoted)}) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        sync(path)
    served = home / SERVED
    former = served.readlink().name if served.is_symlink() else None
    _link(served, folder.name)
    for spec in MODELS:
        link = repository / spec.name / CONFIG
        if not link.is_symlink():
            _link(link, os.path.relpath(_config_file(served, spec.name), link.parent))
    # The former configurations stay until the next promotion: Triton may be about to read them.
    for number in {*map(str, numbers)} - {former}:
        shutil.rmtree(home / number, ignore_errors=True)


def parse_config(text: str) -> pb.ModelConfig:
    """A config.pbtxt as a message.

    Raises:
        RepositoryError: it is none.
    """
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"a config.pbtxt cannot be read ({error}); export the models again") from error


def _home(repository: Path) -> Path:
    return repository / MODELS[0].name / "configs"


def _config_file(folder: Path, model: str) -> Path:
    return folder / f"{model}.pbtxt"


def _link(path: Path, target: str) -> None:
    """Makes `path` a link to `target` in one step, whatever stood there before."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    try:
        partial.replace(path)
    except IsADirectoryError:
        raise RepositoryError(
            f"{path} is a folder, expected a link: the repository was copied without its links; "
            "copy it again with cp -a, or delete that folder and promote a version"
        ) from None
    sync(path.parent)


def _pinned(folder: Path, version: int) -> str:
    """The configuration that a version was published with, serving that version and no other."""
    try:
        config = parse_config((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise RepositoryError(f"{folder / CONFIG} cannot be read ({error}); export that version again") from error
    config.version_policy.specific.versions[:] = [version]
    return str(text_format.MessageToString(config))
