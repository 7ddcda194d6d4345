"""The canary's own images, and the commands that begin and end it: each finds what it needs, and nothing is left."""

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.k8s.manifests import K8S, Object, name_of, of_kind, pods, render
from tests.k8s.policies import references

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
TOLD = re.findall(r"^#   (kubectl .*)$", (K8S / "overlays/canary/kustomization.yaml").read_text(), re.MULTILINE)
ROUTE_LAST = next(index for index, command in enumerate(TOLD) if "overlays/canary " in command)
BEGIN, END = TOLD[: ROUTE_LAST + 1], TOLD[ROUTE_LAST + 1 :]
OF_ALL = {"deployment", "service", "job"}  # in kubectl's category `all`


def images(objects: Sequence[Object], instance: str) -> set[str]:
    """What the pods of one stack run."""
    chosen = [pod for pod in pods(objects) if pod.labels.get("app.kubernetes.io/instance") == instance]
    return {container["image"] for pod in chosen for container in pod.containers}


def set_images(kustomization: Path, **fields: str) -> None:
    """Changes each image of a kustomization; `NAME` stands for its own."""
    content = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
    for image in content["images"]:
        image |= {key: value.replace("NAME", image["name"].partition("/")[2]) for key, value in fields.items()}
    kustomization.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.usefixtures("overlays")
def test_registry_of_production_takes_no_image_from_the_canary_or_from_dev(tmp_path: Path) -> None:
    copy = tmp_path / "k8s"
    shutil.copytree(K8S, copy)
    set_images(copy / "components" / "images" / "kustomization.yaml", newName="registry.plant/NAME", newTag="1")
    set_images(copy / "overlays" / "canary" / "stack" / "kustomization.yaml", newTag="2")
    set_images(copy / "overlays" / "dev" / "kustomization.yaml", newTag="3")
    canary, dev = (render(copy / "overlays" / name) for name in ("canary", "dev"))
    ours = ("gateway", "triton", "export")
    assert images(canary, "canary") == {f"pcb-defect-detector/{name}:2" for name in ours}
    assert images(canary, "stable") == {f"registry.plant/{name}:1" for name in (*ours, "training")}
    on_cpu = ("gateway", "triton-cpu", "export-cpu")
    assert images(dev, "stable") == {f"pcb-defect-detector/{name}:3" for name in on_cpu}


def chosen(objects: Sequence[Object], selector: str) -> list[Object]:
    """Those that `kubectl -l` takes."""
    found = re.fullmatch(r"(\S+?)(!?=| notin )\(?([^()]+)\)?", selector)
    assert found, selector
    key, operator, values = found.groups()
    is_in = operator == "="
    return [each for each in objects if (each["metadata"].get("labels", {}).get(key) in values.split(", ")) == is_in]


def test_canary_begins_in_steps_that_wait_for_what_they_need(overlays: dict[str, list[Object]]) -> None:
    there = {name_of(each): each for each in overlays["production"]}
    needed = {  # what must be ready before it comes
        "Deployment triton-canary": "job/export-canary",  # which has the GPU first
        "Deployment gateway-canary": "deployment/triton-canary",  # or its alerts page
        "HTTPRoute gateway": "deployment/gateway-canary",  # or boards get 503
    }
    ready: set[str] = set()
    for words in map(shlex.split, BEGIN):
        named = {word for word in words if word.startswith(("job/", "deployment/"))}
        if "apply" in words:
            new = chosen(render(ROOT / words[words.index("-k") + 1]), words[words.index("-l") + 1])
            changed = {name_of(each): each for each in new if there.get(name_of(each)) != each}
            assert changed
            assert {needed[name] for name in changed.keys() & needed} <= ready
            there |= changed
            assert list(references(list(there.values()))) == []
        elif "delete" not in words:
            assert named
            assert {f"{kind.title()} {name}" for kind, name in (each.split("/") for each in named)} <= there.keys()
            ready |= named
    assert ready == set(needed.values())
    assert there == {name_of(each): each for each in overlays["canary"]}


def test_canary_ends_without_leaving_models_to_the_next(overlays: dict[str, list[Object]]) -> None:
    apply, delete, remove = map(shlex.split, END)
    stable = chosen(render(ROOT / apply[apply.index("-k") + 1]), apply[apply.index("-l") + 1])
    (route,) = of_kind(stable, "HTTPRoute")
    assert {backend["name"] for rule in route["spec"]["rules"] for backend in rule["backendRefs"]} == {"gateway"}

    known = {name_of(each) for each in overlays["production"]}
    own = [each for each in overlays["canary"] if name_of(each) not in known]
    assert {name_of(each) for each in chosen(overlays["canary"], delete[-1])} == {name_of(each) for each in own}
    kinds = {"all", *({each["kind"].lower() for each in own} - OF_ALL)}
    assert set(delete[delete.index("delete") + 1].split(",")) == kinds

    (export,) = (pod for pod in pods(own) if pod.labels["app.kubernetes.io/name"] == "export")
    written = dict(word.split("=") for word in export.containers[0]["args"] if "=" in word)
    assert set(remove[remove.index("-rf") + 1 :]) == {written["--out"], str(Path(written["--report"]).parent)}
    (toolbox,) = (pod for pod in pods(overlays["production"]) if pod.name == "Deployment toolbox")
    (mount,) = (each for each in toolbox.containers[0]["volumeMounts"] if each["mountPath"] == "/models")
    assert not mount.get("readOnly")
    assert mount["name"] in {each["name"] for each in export.containers[0]["volumeMounts"]}


def test_page_tells_the_canarys_commands_as_its_file_does() -> None:
    for commands in (BEGIN, END):
        assert "```\n" + "\n".join(commands) + "\n```" in PAGE
