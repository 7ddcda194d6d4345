"""Which versions a repository serves: one symbolic link, so that all models change at once.

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
Links need a file system: cloud storage cannot hold such a repository.

Beside the promoted version, which answers whoever asks for none, others may be served for those who name them. Triton
has one configuration for all versions of a model: it is the promoted version's, whose number stands in the parameter
`version`, and the parameters of another version N stand in it as `NAME@N`.

Knows nothing of a running Triton, nor of protobuf: whoever calls brings the function that reads a config.pbtxt.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from export.contract.files import sync
from export.contract.tensors import MODELS

CONFIG = "config.pbtxt"
STATE = "promoted.json"
SERVED = "served"
VERSION_PARAMETER = "version"

ReadConfig = Callable[[str], Any]  # the text of a config.pbtxt to Triton's message ModelConfig; str() is the way back


class RepositoryError(RuntimeError):
    """A model repository is not what a command needs, or Triton does not follow it."""


def read_promoted(repository: Path) -> tuple[int, ...]:
    """The versions that were promoted, in that order; the last one is served, none at all before the first.

    Raises:
        RepositoryError: the state is there and cannot be read.
    """
    return _read_state(repository)[0]


def read_beside(repository: Path) -> tuple[int, ...]:
    """The versions that are served beside the promoted one.

    Raises:
        RepositoryError: the state is there and cannot be read.
    """
    return _read_state(repository)[1]


def write_promoted(
    repository: Path, promoted: Sequence[int], read_config: ReadConfig, beside: Sequence[int] = ()
) -> None:
    """Makes the last of `promoted` the served version of all models, with others `beside` it; remembers the former.

    Raises:
        RepositoryError: as `served_config` does, or the repository has lost its links.
    """
    home = _home(repository)
    home.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
    folder = home / str(1 + max(numbers, default=0))
    configs = {spec.name: served_config(repository, spec.name, promoted[-1], beside, read_config) for spec in MODELS}
    folder.mkdir()
    for model, config in configs.items():
        _config_file(folder, model).write_text(str(config), encoding="utf-8")
    state = {"promoted": list(promoted), "beside": list(beside)}
    (folder / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
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


def served_config(repository: Path, model: str, version: int, beside: Sequence[int], read_config: ReadConfig) -> Any:  # noqa: ANN401
    """The configuration by which Triton serves a version of a model, others `beside` it, and no more.

    Raises:
        RepositoryError: the configuration that a version was published with cannot be read, or one beside cannot be
            served with the other's.
    """
    config = _published_config(repository, model, version, read_config)
    own = _without_parameters(config)
    config.version_policy.specific.versions[:] = [version, *beside]
    for number in beside:
        other = _published_config(repository, model, number, read_config)
        if _without_parameters(other) != own:
            raise RepositoryError(
                f"{model} {number} cannot be served beside {version}: its tensors, backend or batching differ, and "
                "Triton has one configuration for all versions of a model; promote it instead"
            )
        for name, parameter in other.parameters.items():
            config.parameters[beside_parameter(name, number)].string_value = parameter.string_value
    config.parameters[VERSION_PARAMETER].string_value = str(version)
    return config


def beside_parameter(name: str, version: int | str) -> str:
    """Under what name a parameter of a version beside the promoted one stands in the configuration."""
    return f"{name}@{version}"


def _published_config(repository: Path, model: str, version: int, read_config: ReadConfig) -> Any:  # noqa: ANN401
    path = repository / model / str(version) / CONFIG
    try:
        return read_config(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} cannot be read ({error}); export that version again") from error


def _without_parameters(config: Any) -> Any:  # noqa: ANN401
    bare = type(config)()
    bare.CopyFrom(config)
    bare.ClearField("parameters")
    bare.ClearField("version_policy")
    return bare


def _read_state(repository: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    state = _home(repository) / SERVED / STATE
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        return tuple(content["promoted"]), tuple(content.get("beside", ()))
    except FileNotFoundError:
        return (), ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryError(
            f"{state} cannot be read ({error!r}), expected the numbers of the versions that were promoted; "
            f"delete {_home(repository)} and promote a version"
        ) from error


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
