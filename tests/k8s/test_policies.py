"""Manifests broken on purpose, each refused by the policy that is about it: one that never fails checks nothing."""

from collections.abc import Callable

import pytest

from tests.k8s.manifests import Object, of_kind
from tests.k8s.policies import POLICIES, faults


def find(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"].startswith(name))
    return found


def pod_of(objects: list[Object], name: str) -> Object:
    return find(objects, "Deployment", name)["spec"]["template"]["spec"]


def container_of(objects: list[Object], name: str) -> Object:
    return pod_of(objects, name)["containers"][0]


def latest_tag(objects: list[Object]) -> None:
    container_of(objects, "triton")["image"] = "registry.plant:5000/triton:latest"


def no_tag(objects: list[Object]) -> None:
    pod_of(objects, "triton")["initContainers"][0]["image"] = "registry.plant:5000/triton"


def no_limits(objects: list[Object]) -> None:
    del container_of(objects, "gateway")["resources"]["limits"]


def unbounded_memory_volume(objects: list[Object]) -> None:
    (shm,) = (each for each in pod_of(objects, "triton")["volumes"] if each["name"] == "shm")
    del shm["emptyDir"]["sizeLimit"]


def root(objects: list[Object]) -> None:
    pod_of(objects, "gateway")["securityContext"]["runAsUser"] = 0


def writable_root(objects: list[Object]) -> None:
    del container_of(objects, "triton")["securityContext"]["readOnlyRootFilesystem"]


def added_capability(objects: list[Object]) -> None:
    container_of(objects, "triton")["securityContext"]["capabilities"]["add"] = ["SYS_PTRACE"]


def folder_of_the_node(objects: list[Object]) -> None:
    pod_of(objects, "gateway")["volumes"].append({"name": "node", "hostPath": {"path": "/"}})


def no_readiness(objects: list[Object]) -> None:
    del container_of(objects, "gateway")["readinessProbe"]


def probe_of_another_port(objects: list[Object]) -> None:
    container_of(objects, "triton")["livenessProbe"]["httpGet"]["port"] = "https"


def token(objects: list[Object]) -> None:
    del pod_of(objects, "gateway")["automountServiceAccountToken"]


def unknown_field(objects: list[Object]) -> None:
    container_of(objects, "gateway")["readinesProbe"] = {}


def unknown_field_of_a_custom_resource(objects: list[Object]) -> None:
    find(objects, "ScaledObject", "triton")["spec"]["maxReplicas"] = 4


def unknown_kind(objects: list[Object]) -> None:
    find(objects, "ServiceMonitor", "triton")["kind"] = "PodMonitor"


def missing_key_of_a_secret(objects: list[Object]) -> None:
    container_of(objects, "gateway")["env"][0]["valueFrom"]["secretKeyRef"]["key"] = "uri"


def missing_config_map(objects: list[Object]) -> None:
    objects.remove(find(objects, "ConfigMap", "gateway-settings"))


def missing_claim(objects: list[Object]) -> None:
    objects.remove(find(objects, "PersistentVolumeClaim", "models"))


def missing_backend(objects: list[Object]) -> None:
    find(objects, "HTTPRoute", "gateway")["spec"]["rules"][0]["backendRefs"][0]["name"] = "gateways"


def other_namespace(objects: list[Object]) -> None:
    find(objects, "Service", "triton")["metadata"]["namespace"] = "default"


def service_without_pods(objects: list[Object]) -> None:
    find(objects, "Service", "gateway")["spec"]["selector"]["app.kubernetes.io/name"] = "gatway"


def scraped_port_that_is_none(objects: list[Object]) -> None:
    find(objects, "ServiceMonitor", "triton")["spec"]["endpoints"][0]["port"] = "http"


def policy_of_a_port_that_is_none(objects: list[Object]) -> None:
    find(objects, "NetworkPolicy", "gateway-route")["spec"]["ingress"][0]["ports"][0]["port"] = 8081


def nothing_denied(objects: list[Object]) -> None:
    objects.remove(find(objects, "NetworkPolicy", "default-deny"))


def triton_for_all(objects: list[Object]) -> None:
    (policy,) = (each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "triton")
    del policy["spec"]["ingress"][0]["from"]


def triton_outside(objects: list[Object]) -> None:
    find(objects, "Service", "triton")["spec"]["type"] = "NodePort"


def scaler_without_target(objects: list[Object]) -> None:
    find(objects, "HorizontalPodAutoscaler", "gateway")["spec"]["scaleTargetRef"]["name"] = "gatway"


def two_who_say_how_many(objects: list[Object]) -> None:
    find(objects, "Deployment", "triton")["spec"]["replicas"] = 2


def fewer_gateways_than_tritons(objects: list[Object]) -> None:
    find(objects, "HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] = 2


def budget_that_blocks_maintenance(objects: list[Object]) -> None:
    spec = find(objects, "PodDisruptionBudget", "gateway")["spec"]
    del spec["maxUnavailable"]
    spec["minAvailable"] = 4


def grace_below_the_drain(objects: list[Object]) -> None:
    pod_of(objects, "gateway")["terminationGracePeriodSeconds"] = 30


def drain_beyond_the_grace(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["PCBD_DRAIN_S"] = "27"


def launcher_killed_before_its_triton(objects: list[Object]) -> None:
    triton = container_of(objects, "triton")
    triton["command"] = ["python", "-m", "export.server", "--"]
    triton["args"] = [each for each in triton["args"] if "exit-timeout" not in each]
    pod_of(objects, "triton")["terminationGracePeriodSeconds"] = 80


def triton_gone_before_its_connections(objects: list[Object]) -> None:
    container_of(objects, "triton")["lifecycle"]["preStop"]["exec"]["command"][1] = "20"


def setting_that_is_none(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["PCBD_DRAINS"] = "10"


def value_that_is_refused(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["PCBD_API_KEYS"] = "requried"


def less_memory_than_is_let_in(objects: list[Object]) -> None:
    container_of(objects, "gateway")["resources"]["limits"]["memory"] = "2Gi"


def more_let_in_than_memory(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["PCBD_MAX_IN_FLIGHT"] = "20"


def batch_cut_off(objects: list[Object]) -> None:
    del find(objects, "HTTPRoute", "gateway")["spec"]["rules"][0]


def slow_batch_cut_off(objects: list[Object]) -> None:
    find(objects, "HTTPRoute", "gateway")["spec"]["rules"][0]["timeouts"]["request"] = "60s"


def everybody_a_proxy(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["FORWARDED_ALLOW_IPS"] = "*"


def every_address_a_proxy(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "gateway-settings")["data"]["FORWARDED_ALLOW_IPS"] = "10.244.0.7, ::/0"


def proxies_of_no_range(objects: list[Object]) -> None:  # uvicorn takes it for a name, and believes nobody
    find(objects, "ConfigMap", "gateway-settings")["data"]["FORWARDED_ALLOW_IPS"] = "10.244.0.1/16"


def plan_of_any_gpu(objects: list[Object]) -> None:
    template = find(objects, "CronJob", "retraining")["spec"]["jobTemplate"]["spec"]["template"]
    del template["spec"]["nodeSelector"]


def triton_on_another_gpu(objects: list[Object]) -> None:
    pod_of(objects, "triton")["nodeSelector"] = {"nvidia.com/gpu.product": "NVIDIA-A10"}


BROKEN: dict[Callable[[list[Object]], None], str] = {
    latest_tag: "image_versions",
    no_tag: "image_versions",
    no_limits: "resources",
    unbounded_memory_volume: "resources",
    root: "restricted",
    writable_root: "restricted",
    added_capability: "restricted",
    folder_of_the_node: "restricted",
    no_readiness: "probes",
    probe_of_another_port: "probes",
    token: "no_token",
    unknown_field: "schema",
    unknown_field_of_a_custom_resource: "schema",
    unknown_kind: "schema",
    missing_key_of_a_secret: "references",
    missing_config_map: "references",
    missing_claim: "references",
    missing_backend: "references",
    other_namespace: "one_namespace",
    service_without_pods: "services",
    scraped_port_that_is_none: "services",
    policy_of_a_port_that_is_none: "network",
    nothing_denied: "network",
    triton_for_all: "triton_is_private",
    triton_outside: "triton_is_private",
    scaler_without_target: "scaling",
    two_who_say_how_many: "scaling",
    fewer_gateways_than_tritons: "scaling",
    budget_that_blocks_maintenance: "scaling",
    grace_below_the_drain: "draining",
    drain_beyond_the_grace: "draining",
    launcher_killed_before_its_triton: "draining",
    triton_gone_before_its_connections: "draining",
    setting_that_is_none: "settings",
    value_that_is_refused: "settings",
    less_memory_than_is_let_in: "memory",
    more_let_in_than_memory: "memory",
    batch_cut_off: "routes",
    slow_batch_cut_off: "routes",
    everybody_a_proxy: "proxies",
    every_address_a_proxy: "proxies",
    proxies_of_no_range: "proxies",
    plan_of_any_gpu: "plans",
    triton_on_another_gpu: "plans",
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda function: function.__name__)
def test_broken_manifest_is_refused(production: list[Object], break_it: Callable[[list[Object]], None]) -> None:
    break_it(production)
    (policy,) = (each for each in POLICIES if each.__name__ == BROKEN[break_it])
    assert list(policy(production))


def test_every_policy_is_seen_to_fail() -> None:
    assert set(BROKEN.values()) == {policy.__name__ for policy in POLICIES}


def test_all_faults_are_told_together(production: list[Object]) -> None:
    latest_tag(production)
    root(production)
    assert faults(production).keys() == {"image_versions", "restricted"}
