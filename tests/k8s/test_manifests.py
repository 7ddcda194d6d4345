"""Every overlay, component and job is valid by the Kubernetes schemas and holds every policy."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.k8s.conftest import OVERLAYS
from tests.k8s.manifests import K8S, Object, of_kind, pods, render, render_with, selects
from tests.k8s.policies import faults


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_holds_every_policy(overlays: dict[str, list[Object]], overlay: str) -> None:
    assert faults(overlays[overlay]) == {}


def test_training_beside_production_holds_every_policy(production: list[Object]) -> None:
    assert faults([*production, *render(K8S / "jobs" / "training")]) == {}


@pytest.mark.usefixtures("overlays")
@pytest.mark.parametrize("component", ["model-canary", "object-store"])
def test_component_that_no_overlay_has_holds_every_policy(component: str, tmp_path: Path) -> None:
    objects = render_with(tmp_path, [K8S / "overlays" / "production"], [K8S / "components" / component])
    assert faults(objects) == {}


def test_nothing_in_k8s_is_left_unrendered() -> None:
    components = {path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml")}
    used = {"external-secrets", "images", "keda", "monitoring", "production", "route"}
    assert components == used | {"model-canary", "object-store"}
    assert {path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml")} == set(OVERLAYS)
    assert {path.parent.name for path in (K8S / "jobs").glob("*/kustomization.yaml")} == {"retraining", "training"}


def test_canary_is_a_second_stack_that_the_first_does_not_reach(overlays: dict[str, list[Object]]) -> None:
    stacks = {
        (pod.labels["app.kubernetes.io/instance"], pod.labels["app.kubernetes.io/name"])
        for pod in pods(overlays["canary"])
        if pod.owner["kind"] == "Deployment"
    }
    assert {(instance, room) for instance in ("stable", "canary") for room in ("gateway", "triton")} <= stacks
    selectors = [each["spec"]["selector"] for each in of_kind(overlays["canary"], "Service")]
    assert len({tuple(sorted(selector.items())) for selector in selectors}) == len(selectors) == 4
    (route,) = of_kind(overlays["canary"], "HTTPRoute")
    shares = [{each["name"]: each.get("weight") for each in rule["backendRefs"]} for rule in route["spec"]["rules"]]
    assert shares == [{"gateway-canary": None}] * 2 + [{"gateway": 95, "gateway-canary": 5}] * 2
    exports = [pod for pod in pods(overlays["canary"]) if pod.labels["app.kubernetes.io/name"] == "export"]
    written = [{word for word in pod.containers[0]["args"] if word.startswith(("--out", "--rep"))} for pod in exports]
    assert [len(words) for words in written] == [2, 2]
    assert not set.intersection(*written)


@pytest.mark.parametrize("overlay", ["production", "canary"])
def test_stable_stack_and_canary_are_jobs_of_their_own(
    overlays: dict[str, list[Object]], overlay: str, tmp_path: Path
) -> None:
    """Prometheus' own promtool says which job a Service's target has, by what a ServiceMonitor becomes."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    monitors, services = (of_kind(overlays[overlay], kind) for kind in ("ServiceMonitor", "Service"))
    jobs = {
        service["metadata"]["name"]: job_of(monitor, service, tmp_path / "prometheus.yml")
        for monitor in monitors
        for service in services
        if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    }
    stable = {"gateway": "gateway", "triton": "triton"}
    canary = {"gateway-canary": "gateway-canary", "triton-canary": "triton-canary"}
    assert jobs == (stable | canary if overlay == "canary" else stable)


def job_of(monitor: Object, service: Object, path: Path) -> str:
    """The job of a target behind the Service."""
    (endpoint,) = monitor["spec"]["endpoints"]
    prefix, label = "__meta_kubernetes_service_label_", meta(monitor["spec"]["jobLabel"])
    own = [
        {
            "source_labels": each["sourceLabels"],
            "regex": each["regex"],
            "target_label": each["targetLabel"],
            "replacement": each["replacement"],
        }
        for each in endpoint.get("relabelings", [])
    ]
    scrape = {
        "job_name": "serviceMonitor",
        "static_configs": [
            {
                "targets": ["10.0.0.1:80"],
                "labels": {prefix + meta(key): value for key, value in service["metadata"]["labels"].items()},
            }
        ],
        "relabel_configs": [{"source_labels": [prefix + label], "regex": "(.+)", "target_label": "job"}, *own],
    }
    path.write_text(yaml.safe_dump({"scrape_configs": [scrape]}), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "check", "service-discovery", "--timeout=1s", str(path), "serviceMonitor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout)
    return str(target["labels"]["job"])


def meta(name: str) -> str:
    """A label's name as Kubernetes' service discovery writes it."""
    return re.sub(r"\W", "_", name)


def test_gpu_is_asked_for_in_production_only(overlays: dict[str, list[Object]]) -> None:
    def gpus(overlay: str) -> set[str]:
        return {
            pod.owner["metadata"]["name"]
            for pod in pods(overlays[overlay])
            for container in pod.containers
            if "nvidia.com/gpu" in container["resources"]["limits"]
        }

    assert gpus("dev") == set()
    assert gpus("production") == {"triton", "export", "retraining"}
