"""What every manifest must hold beyond its schema: each policy is a function from all objects to its faults.

Stands for conftest or Kyverno. A fault names the object, what it has and what is expected.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Sequence

import jsonschema
import kubernetes_validate
from pydantic import ValidationError

from export.server import EXIT_MARGIN_S, EXIT_TIMEOUT_S, INSTANCE_CHECK_S, LOG_END_TIMEOUT_S
from gateway.review.recorder import CLOSE_IMAGES_S, CLOSE_TIMEOUT_S
from gateway.settings import Settings, faults_of_settings
from tests.k8s.custom_resources import SPECS
from tests.k8s.manifests import Object, Pod, name_of, names, of_kind, pods, selects

VERSION = "1.32"  # the oldest Kubernetes that is meant
CLUSTER_WIDE = ("Namespace", "PriorityClass")
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
RECORDING_S = CLOSE_IMAGES_S + CLOSE_TIMEOUT_S  # at the most, after the last answer
LAUNCHER_END_S = EXIT_MARGIN_S + INSTANCE_CHECK_S + LOG_END_TIMEOUT_S  # of export.server, after Triton's exit timeout
CONNECTION_AGE_JITTER = 1.1  # gRPC's own
IDLE_GATEWAY_BYTES = 156 * 2**20  # docs/detection.md
BYTES_A_PIXEL = 9  # at most, of a picture that is being decoded: PCBD_MAX_IMAGE_PIXELS
BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
BATCH = "/detect/batch"


def schema(objects: Sequence[Object]) -> Iterator[str]:
    """Fields that Kubernetes and the operators know, and no others."""
    for each in objects:
        custom = SPECS.get((each["apiVersion"], each["kind"]))
        try:
            if custom is None:
                kubernetes_validate.validate(each, VERSION, strict=True)
            else:
                jsonschema.validate(each["spec"], custom)
        except jsonschema.ValidationError as error:
            place = ".".join(map(str, error.absolute_path))
            yield f"{name_of(each)}: {place}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name_of(each)}: {error.message}; state its schema in custom_resources.py"


def one_namespace(objects: Sequence[Object]) -> Iterator[str]:
    """Everything is in the namespace that is made, and that refuses pods which are not restricted."""
    (namespace,) = of_kind(objects, "Namespace")
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield f"{name_of(namespace)} does not enforce the restricted pod security standard"
    for each in objects:
        if each["kind"] not in CLUSTER_WIDE and each["metadata"].get("namespace") != namespace["metadata"]["name"]:
            yield f"{name_of(each)} is in {each['metadata'].get('namespace')}, not in {namespace['metadata']['name']}"


def image_versions(objects: Sequence[Object]) -> Iterator[str]:
    """An image is one version: a tag other than latest, or a digest."""
    for pod in pods(objects):
        for container in pod.containers:
            image = container["image"]
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{pod.name}, {container['name']}: image {image} names no version; give a tag or a digest"


def resources(objects: Sequence[Object]) -> Iterator[str]:
    """Requests and limits of processor and memory; no volume in memory or on the node's disk without a bound."""
    for pod in pods(objects):
        for container in pod.containers:
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys()
                if missing:
                    yield f"{pod.name}, {container['name']}: no {kind} of {', '.join(sorted(missing))}"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.name}: emptyDir {volume['name']} has no sizeLimit"


def probes(objects: Sequence[Object]) -> Iterator[str]:
    """A container that serves says when it has started, lives and is ready, on a port that it has."""
    for pod in pods(objects):
        if pod.owner["kind"] != "Deployment":
            continue
        for container in pod.spec["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe") if container.get("ports") else ():
                asked = container.get(probe, {}).get("httpGet")
                if asked is None:
                    yield f"{pod.name}, {container['name']}: no {probe}"
                elif not pod.port(asked["port"]):
                    yield f"{pod.name}, {container['name']}: {probe} asks port {asked['port']}, which it has not"


def restricted(objects: Sequence[Object]) -> Iterator[str]:
    """The restricted pod security standard, and a root file system that nobody writes."""
    for pod in pods(objects):
        whole = pod.spec.get("securityContext", {})
        if not whole.get("runAsNonRoot") or not whole.get("runAsUser"):
            yield f"{pod.name} may run as root"
        if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.name} has no seccomp profile RuntimeDefault"
        if any(pod.spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.name} shares a namespace of its node"
        for volume in pod.spec.get("volumes", []):
            if not RESTRICTED_VOLUMES & volume.keys():
                yield f"{pod.name}: volume {volume['name']} is of a kind that is not allowed"
        for container in pod.containers:
            own = container.get("securityContext", {})
            if own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
                yield f"{pod.name}, {container['name']} runs as root"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{pod.name}, {container['name']} may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{pod.name}, {container['name']} keeps capabilities"
            if not own.get("readOnlyRootFilesystem"):
                yield f"{pod.name}, {container['name']} may write its root file system"


def no_token(objects: Sequence[Object]) -> Iterator[str]:
    """No pod gets a token for the Kubernetes API."""
    for account in of_kind(objects, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)} hands out its token"
    for pod in pods(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name} gets a token"


def references(objects: Sequence[Object]) -> Iterator[str]:
    """What is named is there: ConfigMaps, Secrets and their keys, claims, accounts, priorities, Services, targets."""
    keys: dict[tuple[str, str], Collection[str]] = {
        ("ConfigMap", each["metadata"]["name"]): each["data"].keys() for each in of_kind(objects, "ConfigMap")
    }
    for each in of_kind(objects, "Secret"):
        keys["Secret", each["metadata"]["name"]] = {**each.get("data", {}), **each.get("stringData", {})}.keys()
    for each in of_kind(objects, "ExternalSecret"):
        keys["Secret", each["spec"]["target"]["name"]] = {entry["secretKey"] for entry in each["spec"]["data"]}
    for pod in pods(objects):
        yield from _pod_references(pod, objects, keys)
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind(objects, "Service")}
    for route in of_kind(objects, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            if parent["name"] not in names(objects, "Gateway"):
                yield f"{name_of(route)}: there is no Gateway {parent['name']}"
        for backend in (backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]):
            if backend["port"] not in [port["port"] for port in services.get(backend["name"], [])]:
                yield f"{name_of(route)}: there is no Service {backend['name']} with port {backend['port']}"
    for gateway in of_kind(objects, "Gateway"):
        for secret in (ref["name"] for each in gateway["spec"]["listeners"] for ref in each["tls"]["certificateRefs"]):
            if keys.get(("Secret", secret), set()) != {"tls.crt", "tls.key"}:
                yield f"{name_of(gateway)}: there is no Secret {secret} with a certificate and its key"


def _pod_references(pod: Pod, objects: Sequence[Object], keys: dict[tuple[str, str], Collection[str]]) -> Iterator[str]:
    if pod.spec["serviceAccountName"] not in names(objects, "ServiceAccount"):
        yield f"{pod.name}: there is no ServiceAccount {pod.spec['serviceAccountName']}"
    if pod.spec["priorityClassName"] not in names(objects, "PriorityClass"):
        yield f"{pod.name}: there is no PriorityClass {pod.spec['priorityClassName']}"
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in names(objects, "PersistentVolumeClaim"):
            yield f"{pod.name}: there is no PersistentVolumeClaim {claim}"
        config = volume.get("configMap", {}).get("name")
        if config and ("ConfigMap", config) not in keys:
            yield f"{pod.name}: there is no ConfigMap {config}"
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{pod.name}, {container['name']}: there is no volume {mount['name']}"
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source and (kind, source[field]["name"]) not in keys:
                    yield f"{pod.name}, {container['name']}: there is no {kind} {source[field]['name']}"
        for variable in container.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                ref = variable.get("valueFrom", {}).get(field)
                if ref and ref["key"] not in keys.get((kind, ref["name"]), ()):
                    yield f"{pod.name}, {container['name']}: there is no {kind} {ref['name']} with {ref['key']}"


def services(objects: Sequence[Object]) -> Iterator[str]:
    """A Service has pods with its ports; what is scraped is a Service's port."""
    for service in of_kind(objects, "Service"):
        selected = [pod for pod in pods(objects) if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        if not selected:
            yield f"{name_of(service)} selects no pod"
        for pod in selected:
            for port in service["spec"]["ports"]:
                if not pod.port(port["targetPort"]):
                    yield f"{name_of(service)}: {pod.name} has no port {port['targetPort']}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        scraped = [
            service
            for service in of_kind(objects, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
        ]
        ports = {port["name"] for service in scraped for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                yield f"{name_of(monitor)}: no Service that it selects has a port {endpoint['port']}"


def network(objects: Sequence[Object]) -> Iterator[str]:
    """All is denied but what is allowed, and what is allowed is there."""
    policies = of_kind(objects, "NetworkPolicy")
    denied = {
        direction
        for policy in policies
        if policy["spec"]["podSelector"] == {} and not {"ingress", "egress"} & policy["spec"].keys()
        for direction in policy["spec"]["policyTypes"]
    }
    if denied != {"Ingress", "Egress"}:
        yield f"no policy denies both directions to all pods, only {', '.join(sorted(denied)) or 'none'}"
    known = list(pods(objects))
    for policy in policies:
        spec = policy["spec"]
        own = [pod for pod in known if selects(spec["podSelector"], pod.labels)]
        if not own:
            yield f"{name_of(policy)} is about no pod"
        for rule in spec.get("ingress", []):
            yield from _ports(policy, rule, own)
        for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
            for peer in (*rule.get("from", []), *rule.get("to", [])):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    others = [pod for pod in known if selects(peer["podSelector"], pod.labels)]
                    if not others:
                        yield f"{name_of(policy)} allows a peer that no pod is: {peer['podSelector']}"
                    if "to" in rule:
                        yield from _ports(policy, rule, others)


def _ports(policy: Object, rule: Object, reached: Sequence[Pod]) -> Iterator[str]:
    for port in rule.get("ports", []):
        for pod in reached:
            if not pod.port(port["port"]):
                yield f"{name_of(policy)}: {pod.name} has no port {port['port']}"


def triton_is_private(objects: Sequence[Object]) -> Iterator[str]:
    """Inferences and model control of Triton are for pods that say so in their labels; Prometheus gets its metrics."""
    tritons = [pod for pod in pods(objects) if pod.labels.get("app.kubernetes.io/name") == "triton"]
    for policy in of_kind(objects, "NetworkPolicy"):
        if not any(selects(policy["spec"]["podSelector"], pod.labels) for pod in tritons):
            continue
        for rule in policy["spec"].get("ingress", []):
            asked = {port["port"] for port in rule.get("ports", [{"port": "all"}])}
            peers = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in rule.get("from", [{}])]
            if asked != {"metrics"} and not all(peer.get("pcbd/asks-triton") == "true" for peer in peers):
                yield f"{name_of(policy)} lets others than the gateway and the tools reach Triton's {asked}"
    for service in of_kind(objects, "Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{name_of(service)} is reached from outside of the cluster"


def scaling(objects: Sequence[Object]) -> Iterator[str]:
    """An autoscaler has a target, which leaves the number of replicas to it; a budget lets maintenance take a pod.

    A gateway asks one Triton at a time: with fewer gateways a GPU waits for nobody.
    """
    deployments = {each["metadata"]["name"]: each for each in of_kind(objects, "Deployment")}
    least = {name: each["spec"].get("replicas", 1) for name, each in deployments.items()}
    most = dict(least)
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if target not in deployments:
            yield f"{name_of(scaler)}: there is no Deployment {target}"
            continue
        if "replicas" in deployments[target]["spec"]:
            yield f"{name_of(scaler)} and Deployment {target} both say how many replicas there are"
        bounds = [scaler["spec"].get(f"{end}Replica{kind}") for kind in ("s", "Count") for end in ("min", "max")]
        low, high = (bound for bound in bounds if bound is not None)
        if low > high:
            yield f"{name_of(scaler)}: at least {low} and at most {high}"
        least[target], most[target] = low, high
    for triton in (name for name in deployments if name.startswith("triton")):
        gateway = triton.replace("triton", "gateway")
        if least[gateway] < most[triton]:
            yield f"Deployment {gateway} may have {least[gateway]} replicas, and {triton} {most[triton]}"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        spec = budget["spec"]
        chosen = [pod for pod in pods(objects) if selects(spec["selector"], pod.labels)]
        if not chosen:
            yield f"{name_of(budget)} is about no pod"
        for pod in chosen:
            replicas = least[pod.owner["metadata"]["name"]]
            if spec.get("maxUnavailable", 1) < 1 or spec.get("minAvailable", 0) >= replicas:
                yield f"{name_of(budget)} lets no node be emptied: {pod.name} has {replicas}"


def draining(objects: Sequence[Object]) -> Iterator[str]:
    """Kubernetes waits as long as a process needs to end in order."""
    settings = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        grace = pod.spec["terminationGracePeriodSeconds"]
        for container in pod.spec["containers"]:
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])[1]
            command = [*container.get("command", []), *container.get("args", [])]
            options = dict(each.lstrip("-").split("=", 1) for each in command if each.startswith("--") and "=" in each)
            is_launcher = "export.server" in command
            needed = float(sleep) + float(options.get("exit-timeout-secs", EXIT_TIMEOUT_S if is_launcher else 0))
            needed += LAUNCHER_END_S if is_launcher else 0
            if "grpc-max-connection-age" in options:
                left = float(options["grpc-max-connection-age"]) / 1000 * CONNECTION_AGE_JITTER + Settings().deadline_s
                if float(sleep) < left:
                    yield f"{pod.name} ends after {sleep} s while gateways may stay connected for {left:g} s"
            if command[-2:] == ["-m", "gateway"]:
                given = _settings(container, settings)
                needed += given.drain_s + given.deadline_s + given.body_timeout_s + RECORDING_S
            if needed >= grace:
                yield f"{pod.name} needs {needed:g} s to end and is killed after {grace}"


def settings(objects: Sequence[Object]) -> Iterator[str]:
    """Every variable PCBD_* is a setting of the gateway's, and the gateway starts with its value."""
    known = {f"PCBD_{name.upper()}" for name in Settings.model_fields}
    configs = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        for container in pod.containers:
            given = _variables(container, configs)
            own = {name for name in given if name.startswith("PCBD_")}
            if unknown := own - known:
                yield f"{pod.name}, {container['name']}: {', '.join(sorted(unknown))} is no setting"
            elif own:
                try:
                    _settings(container, configs)
                except ValidationError as error:
                    yield f"{pod.name}, {container['name']}: {faults_of_settings(error)}"


def _variables(container: Object, configs: dict[str, Object]) -> dict[str, str]:
    """A container's variables; those that a Secret has are not known."""
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= configs.get(source.get("configMapRef", {}).get("name"), {})
    return given | {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def memory(objects: Sequence[Object]) -> Iterator[str]:
    """A gateway is not killed for what its own limits let in."""
    configs = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        for container in pod.spec["containers"]:
            if [*container.get("command", []), *container.get("args", [])][-2:] == ["-m", "gateway"]:
                limit = _bytes(container["resources"]["limits"]["memory"])
                if limit < (needed := gateway_bytes(_settings(container, configs))):
                    yield f"{pod.name} may take {limit} bytes, and the settings let in what takes {needed}"


def gateway_bytes(settings: Settings) -> int:
    """What a gateway takes at work on as many, and as large, requests as it lets in."""
    request = settings.max_body_bytes + settings.max_image_pixels * BYTES_A_PIXEL
    return settings.workers * (IDLE_GATEWAY_BYTES + settings.max_in_flight * request)


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", quantity)
    assert found, f"only whole numbers of Ki, Mi and Gi are understood, not {quantity}"
    return int(found[1]) * BINARY_UNITS[found[2]]


def routes(objects: Sequence[Object]) -> Iterator[str]:
    """However a request is routed, a batch may take as long as its pictures do."""
    for route in of_kind(objects, "HTTPRoute"):
        ways = [
            (match.get("headers", []), match.get("path", {}).get("value"), rule.get("timeouts", {}).get("request"))
            for rule in route["spec"]["rules"]
            for match in rule.get("matches", [{}])
        ]
        for headers, path, limit in ways:
            if path is None and limit != "0s" and (headers, BATCH, "0s") not in ways:
                yield f"{name_of(route)}: {BATCH} with the headers {headers} is cut off after {limit}; give it 0s"


def _settings(container: Object, configs: dict[str, Object]) -> Settings:
    given = _variables(container, configs)
    known = {name.removeprefix("PCBD_").lower(): value for name, value in given.items() if name.startswith("PCBD_")}
    return Settings.model_validate(known)


def proxies(objects: Sequence[Object]) -> Iterator[str]:
    """Whose X-Forwarded-For is believed is told by address or range: a client that is chooses what is logged."""
    configs = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        for container in pod.containers:
            believed = _variables(container, configs).get("FORWARDED_ALLOW_IPS", "127.0.0.1")
            for each in believed.split(","):
                try:
                    everybody = ipaddress.ip_network(each.strip()).prefixlen == 0
                except ValueError as error:
                    yield f"{pod.name}, {container['name']} believes no address or range: {error}"
                else:
                    if everybody:
                        yield f"{pod.name}, {container['name']} believes everybody: {each}"


def plans(objects: Sequence[Object]) -> Iterator[str]:
    """A TensorRT plan is built on the kind of GPU on which Triton runs it."""
    kinds = {
        pod.labels["app.kubernetes.io/instance"]: pod.spec.get("nodeSelector")
        for pod in pods(objects)
        if pod.labels.get("app.kubernetes.io/name") == "triton"
    }
    for pod in pods(objects):
        kind, expected = pod.spec.get("nodeSelector"), kinds.get(pod.labels.get("app.kubernetes.io/instance", ""))
        for container in pod.containers:
            command = {*container.get("command", []), *container.get("args", [])}
            if {"export.build", "--target=tensorrt"} <= command and kind != expected:
                yield f"{pod.name}, {container['name']} builds plans on nodes of {kind}, and Triton runs on {expected}"


Policy = Callable[[Sequence[Object]], Iterator[str]]
POLICIES: tuple[Policy, ...] = (
    schema,
    one_namespace,
    image_versions,
    resources,
    probes,
    restricted,
    no_token,
    references,
    services,
    network,
    triton_is_private,
    scaling,
    draining,
    settings,
    memory,
    routes,
    proxies,
    plans,
)


def faults(objects: Sequence[Object]) -> dict[str, list[str]]:
    """What is wrong, by the policy that says so; empty where nothing is."""
    found = {policy.__name__: list(policy(objects)) for policy in POLICIES}
    return {name: said for name, said in found.items() if said}
