"""What `kubectl kustomize` makes of k8s/, and how to look at it: objects as Kubernetes would get them."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

K8S = ROOT / "k8s"
KUBECTL = shutil.which("kubectl", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl kustomize {folder}: {done.stderr}"
    return list(yaml.safe_load_all(done.stdout))


def render_with(folder: Path, resources: Sequence[Path], components: Sequence[Path]) -> list[Object]:
    """The objects of a kustomization made in `folder`, as somebody would write one of their own."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "pcbd",
        "resources": [os.path.relpath(path, folder) for path in resources],
        "components": [os.path.relpath(path, folder) for path in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return render(folder)


@dataclass(frozen=True)
class Pod:
    """The pods of one workload: what they are called, their labels, their specification."""

    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def name(self) -> str:
        """Kind and name of the workload."""
        return name_of(self.owner)

    @property
    def containers(self) -> list[Object]:
        """All of them, those that come first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def port(self, port: int | str) -> bool:
        """Whether a container has that port, by number or name."""
        known = [entry for each in self.spec["containers"] for entry in each.get("ports", [])]
        return any(port in (entry["containerPort"], entry.get("name")) for entry in known)


def pods(objects: Sequence[Object]) -> Iterator[Pod]:
    """The pods of every workload."""
    for each in objects:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template and "containers" in template.get("spec", {}):
            yield Pod(each, template["metadata"]["labels"], template["spec"])


def name_of(each: Object) -> str:
    """Kind and name, for messages."""
    return f"{each['kind']} {each['metadata']['name']}"


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def names(objects: Sequence[Object], *kinds: str) -> set[str]:
    """The names of those of some kinds."""
    return {each["metadata"]["name"] for each in of_kind(objects, *kinds)}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector, of matchLabels and of In, takes these labels; an empty one takes all."""
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), f"only In is understood, not {expressions}"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )
