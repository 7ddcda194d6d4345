"""The files of docker/, without Docker: the Dockerfiles, compose by its current schema, what containers may do."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from gateway.settings import Settings
from tests.conftest import ROOT
from tests.k8s.manifests import K8S
from tests.k8s.policies import RECORDING_S, gateway_bytes

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
ONE_SHOT = {"export", "export-cpu"}


def variables() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (DOCKER / ".env").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found[name] = Template(value).substitute(found)
    return found


def compose(path: Path = COMPOSE) -> dict[str, Any]:
    """A compose file with the values of .env; every variable has one, or this raises."""
    content: dict[str, Any] = yaml.safe_load(Template(path.read_text(encoding="utf-8")).substitute(variables()))
    return content


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
STAYING = sorted(SERVICES.keys() - ONE_SHOT)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    beside_python = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=beside_python)
    assert hadolint is not None
    found = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize(
    "path", [DOCKER / "triton.Dockerfile", ROOT / "docs" / "export.md"], ids=lambda path: path.name
)
def test_tensorrt_is_the_module_and_its_bindings_without_libraries(path: Path) -> None:
    """The bindings have no module `tensorrt`, and the package that has it would bring libraries beside the base's."""
    (command,) = (line for line in path.read_text(encoding="utf-8").splitlines() if "tensorrt-cu13" in line)
    assert "install --no-deps " in command
    pinned = re.findall(r"(tensorrt[\w-]*)==([^\s\"]+)", command)
    assert sorted(name for name, _ in pinned) == ["tensorrt-cu13", "tensorrt-cu13-bindings"]
    assert len({version for _, version in pinned}) == 1


@pytest.mark.parametrize("path", sorted(DOCKER.glob("compose*.yaml")), ids=lambda path: path.name)
def test_compose_files_are_valid_by_the_current_schema(path: Path) -> None:
    PyCompose.from_yaml(yaml.safe_dump(compose(path)))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    broken = compose()
    broken["services"]["triton"]["read_onyl"] = True
    with pytest.raises(ValueError, match="read_onyl"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_its_user(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", STAYING)
def test_a_service_comes_back_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert int(service["stop_grace_period"].removesuffix("s")) >= 20


def test_what_builds_ends_for_good() -> None:
    assert {name for name, service in SERVICES.items() if service["restart"] == "no"} == ONE_SHOT


def test_only_the_gateway_and_grafana_are_published_and_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"gateway", "gateway-cpu", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_triton_is_reached_by_those_who_need_it_and_reaches_nobody_outside() -> None:
    networks = compose()["networks"]
    assert networks["backend"]["internal"] is networks["monitoring"]["internal"] is True
    for name in ("triton", "triton-cpu", "export", "export-cpu"):
        assert list(SERVICES[name]["networks"]) == ["backend"]
    members = {name for name, service in SERVICES.items() if "backend" in service["networks"]}
    assert members - {"triton", "triton-cpu"} == {"export", "export-cpu", "gateway", "gateway-cpu", "prometheus"}
    assert list(SERVICES["prometheus"]["networks"]) == ["backend", "monitoring"]


def test_each_waits_for_what_it_needs() -> None:
    for suffix in ("", "-cpu"):
        assert SERVICES[f"triton{suffix}"]["depends_on"] == {
            f"export{suffix}": {"condition": "service_completed_successfully"}
        }
        assert SERVICES[f"gateway{suffix}"]["depends_on"] == {f"triton{suffix}": {"condition": "service_healthy"}}


def test_the_profiles_are_the_same_services() -> None:
    """They differ in the images and in the GPU; for others the names are the same."""
    only = {"profiles", "image", "build", "deploy", "command", "networks", "depends_on", "tmpfs"}
    for name in ("export", "triton", "gateway"):
        gpu, cpu = ({key: SERVICES[n][key] for key in SERVICES[n].keys() - only} for n in (name, f"{name}-cpu"))
        assert gpu == cpu
        assert (SERVICES[name]["profiles"], SERVICES[f"{name}-cpu"]["profiles"]) == (["gpu"], ["cpu"])
    for name in ("triton", "gateway"):
        aliases = {
            network: (given or {}).get("aliases") for network, given in SERVICES[f"{name}-cpu"]["networks"].items()
        }
        assert aliases == {network: [name] for network in SERVICES[name]["networks"]}


def test_only_what_builds_and_serves_gets_the_gpu() -> None:
    assert {name for name, service in SERVICES.items() if "deploy" in service} == {"export", "triton"}


def test_the_gateway_has_its_time_to_drain() -> None:
    settings = Settings()
    grace = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_s + settings.deadline_s + settings.body_timeout_s + RECORDING_S


def test_the_gateway_has_the_memory_that_its_limits_let_in_and_as_much_in_kubernetes() -> None:
    memory = variables()["GATEWAY_MEMORY"]
    assert memory.endswith("g")
    gibibytes = int(memory.removesuffix("g"))  # Docker's g is one
    assert gibibytes * 2**30 >= gateway_bytes(Settings())
    (deployment,) = yaml.safe_load_all((K8S / "base" / "gateway" / "deployment.yaml").read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == f"{gibibytes}Gi"


def test_every_image_is_pinned_and_every_tag_stands_once() -> None:
    found = variables()
    for name, image in found.items():
        if name.endswith("_IMAGE"):
            assert ":" in image
            assert not image.endswith(":latest")
    tag = found["TRITON_TAG"]
    places = [p for p in DOCKER.rglob("*") if p.is_file() and p.suffix != ".whl" and tag.encode() in p.read_bytes()]
    assert places == [DOCKER / ".env"]
    assert (DOCKER / ".env").read_text(encoding="utf-8").count(tag) == 1


def test_grafana_asks_prometheus_past_a_proxy() -> None:
    """Of the three it alone goes by the variables that Compose sets; of their two spellings Go reads this one first."""
    assert SERVICES["grafana"]["environment"]["NO_PROXY"] == "*"


def test_secrets_are_files_and_no_environment_holds_one() -> None:
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert "DATABASE_URL" not in name
            assert "PASSWORD" not in name or name.endswith("__FILE")
    assert set(compose()["secrets"]) == {
        secret for service in SERVICES.values() for secret in service.get("secrets", ())
    }
