"""Every image really built, the profile cpu really run, by a Docker daemon of its own; needs root and no registry.

    apt-get install --no-install-recommends docker.io docker-compose debootstrap iptables
    python -m tests.docker.trial --work /var/tmp/pcbd-trial

The files are those of docker/ as they are; only base images are stand-ins (tests/docker/stand_ins.Dockerfile), of which
Grafana's is nothing but its health check. Images take some ten minutes and 20 GB, most of it torch and its like; a
second run in the same --work takes them from the daemon's cache. Figures go to stdout as one line of JSON; exit code 1
at the first thing that does not hold.
"""

import argparse
import io
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from gateway.up import free_port
from tests.conftest import BOARD
from tests.docker.daemon import TrialError, daemon, run, stand_in_images

PATIENCE_S = 180.0
SERVICES = ("triton-cpu", "gateway-cpu", "prometheus", "alertmanager", "grafana")
FILES = ("--file=docker/compose.yaml", "--file=tests/docker/stand_ins.yaml", "--profile=cpu")
SECRETS = ("DATABASE_URL_FILE", "GRAFANA_PASSWORD_FILE", "ALERT_PAGE_URL_FILE", "ALERT_TICKET_URL_FILE")
PICTURE = BOARD.read_bytes()
REPOSITORY = ("--repository", "/models/repository", "--triton", "triton:8001")
UP_TARGETS = "http://127.0.0.1:9090/api/v1/query?query=up%3D%3D1"
# A Python model of the server's image for a GPU host: it needs our packages and CUDA's bindings, and no GPU.
PROBE = """
import cuda.bindings.runtime, export.runtime.backend
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
PROBE_CONFIG = """
name: "probe" backend: "python" instance_group { kind: KIND_CPU }
input { name: "IN" data_type: TYPE_INT32 dims: 1 } output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
"""


def require(holds: bool, otherwise: str) -> None:
    """Ends the trial where something does not hold."""
    if not holds:
        raise TrialError(otherwise)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls, since the state is another process's."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        require(time.monotonic() < deadline, f"waited in vain for: {what}")
        time.sleep(0.2)


class Trial:
    """The service as docker/compose.yaml brings it up, and what is asked of it, in this order."""

    def __init__(self, work: Path, environment: dict[str, str]) -> None:
        self.work = work
        ports = {"GATEWAY_PORT": str(free_port()), "GRAFANA_PORT": str(free_port())}
        files = {name: str(work / "secrets" / name) for name in SECRETS}
        (work / "secrets").mkdir(exist_ok=True)
        for path in map(Path, files.values()):
            is_database = path.name == "DATABASE_URL_FILE"
            path.write_text(
                "sqlite:////data/gateway.db\n" if is_database else f"http://127.0.0.1/{secrets.token_hex()}\n"
            )
        self.environment = {**environment, **ports, **files}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{ports['GATEWAY_PORT']}", timeout=PATIENCE_S)
        self.figures: dict[str, Any] = {}

    def images_for_a_cpu_are_built(self) -> None:
        self._timed("build_cpu_s", lambda: run(["docker/build.sh", "cpu", "--network=host"], self.environment))

    def all_is_healthy_and_detects(self) -> None:
        self._compose("down", "--volumes")
        self._timed("up_from_zero_s", self._up)
        self.figures["load_while_up"] = os.getloadavg()[0]
        self._detect()

    def prometheus_scrapes_both(self) -> None:
        def up() -> set[str]:
            answer = json.loads(self._compose("exec", "-T", "prometheus", "wget", "-qO-", UP_TARGETS))
            return {series["metric"]["job"] for series in answer["data"]["result"]}

        wait_until(lambda: up() >= {"gateway", "triton"}, "gateway and Triton scraped")

    def nothing_has_more_than_it_needs(self) -> None:
        published = {}
        for service in SERVICES:
            container = self._inspect(service)
            ports = [port for port in container["NetworkSettings"]["Ports"].values() if port]
            published |= {service: {binding["HostIp"] for port in ports for binding in port}} if ports else {}
            lines = Path(f"/proc/{container['State']['Pid']}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            require("0" not in status["Uid"].split(), f"{service} runs as root")
            require(int(status["CapBnd"], 16) == 0, f"{service} may get capabilities {status['CapBnd']}")
            require(status["NoNewPrivs"] == "1", f"{service} may get privileges")
        require(published == {"gateway-cpu": {"127.0.0.1"}, "grafana": {"127.0.0.1"}}, f"published: {published}")

    def a_key_is_made(self) -> None:
        command = ("python", "-m", "gateway.access", "create", "--name=line-3", "--scope=detect")
        require(self._compose("exec", "-T", "gateway-cpu", *command).startswith("pcbd_"), "no key came")

    def the_killed_come_back(self) -> None:
        """Each container's first process is killed as the kernel does it when memory is short."""
        self.figures["back_after_kill_s"] = {}
        for service in SERVICES:
            before = self._inspect(service)
            begin = time.monotonic()
            os.kill(before["State"]["Pid"], signal.SIGKILL)
            wait_until(
                lambda s=service, n=before["RestartCount"]: self._inspect(s)["RestartCount"] > n, f"{service} again"
            )
            wait_until(lambda s=service: self._is_healthy(s), f"{service} healthy again")
            self.figures["back_after_kill_s"][service] = round(time.monotonic() - begin, 1)
        wait_until(self._is_ready, "the gateway ready")
        self._detect()

    def stopping_loses_no_request(self) -> None:
        large = io.BytesIO()
        Image.open(BOARD).resize((960, 960)).save(large, "PNG")

        def ask() -> int:
            return httpx.post(
                f"{self.client.base_url}/detect", files={"image": large.getvalue()}, timeout=60
            ).status_code

        def at_work() -> float:
            lines = self.client.get("/metrics").text.splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith("pcbd_in_flight "))

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask) for _ in range(4)]
            wait_until(lambda: at_work() == 4, "four requests at work")
            self._timed("gateway_stop_s", lambda: run(["docker", "stop", "pcbd_gateway-cpu_1"], self.environment))
            statuses = [answer.result() for answer in answers]
        require(statuses == [200] * 4, f"requests at work when the gateway was stopped: {statuses}")
        self._timed("triton_stop_s", lambda: run(["docker", "stop", "pcbd_triton-cpu_1"], self.environment))
        codes = [self._inspect(service)["State"]["ExitCode"] for service in ("gateway-cpu", "triton-cpu")]
        require(codes == [0, 0], f"gateway and Triton ended with {codes}")

    def up_again_builds_nothing(self) -> None:
        self._compose("down")
        self._timed("up_again_s", self._up)
        log = self._compose("logs", "--no-color", "export-cpu")
        require("nothing to build: there is version 1" in log, log)
        self._detect()

    def another_precision_is_built_promoted_and_taken_back(self) -> None:
        build = ("run", "--rm", "export-cpu", "--target", "openvino", "--precision", "fp32")
        self._timed("export_fp32_s", lambda: self._compose(*build))
        command = ("run", "--rm", "--entrypoint", "python", "export-cpu", "-m", "export.repository")
        self._compose(*command, "promote", "2", *REPOSITORY)
        wait_until(lambda: self._detect()["model"]["version"] == "2", "version 2 answers")
        self._compose(*command, "rollback", *REPOSITORY)
        wait_until(lambda: self._detect()["model"]["version"] == "1", "version 1 answers")

    def images_for_a_gpu_are_built(self) -> None:
        self._timed("build_gpu_s", lambda: run(["docker/build.sh", "gpu", "--network=host"], self.environment))
        run(["docker-compose", "--file=docker/compose.yaml", "--profile=gpu", "config"], self.environment)

    def the_gpu_image_serves_python_models(self) -> None:
        """As far as that goes without a GPU: contained as in the compose file, on the stand-in base."""
        model = self.work / "probe" / "probe"
        (model / "1").mkdir(parents=True, exist_ok=True)
        (model / "config.pbtxt").write_text(PROBE_CONFIG)
        (model / "1" / "model.py").write_text(PROBE)
        contained = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--tmpfs=/tmp")
        where = ("--name=pcbd_probe", "--network=none", f"--volume={model.parent}:/probe:ro")
        server = ("pcb-defect-detector/triton:0.1.0", "tritonserver", "--model-repository=/probe")
        look = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/models/probe/ready', timeout=2)"
        run(["docker", "run", "--detach", *where, *contained, *server], self.environment)
        try:
            wait_until(lambda: self._succeeds("docker", "exec", "pcbd_probe", "python3", "-c", look), "the probe ready")
        finally:
            run(["docker", "rm", "--force", "pcbd_probe"], self.environment)

    def _compose(self, *arguments: str) -> str:
        return run(["docker-compose", *FILES, *arguments], self.environment)

    def _up(self) -> None:
        self._compose("up", "--detach", "--no-build")
        wait_until(lambda: all(map(self._is_healthy, SERVICES)), "everything healthy")

    def _inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run(["docker", "inspect", f"pcbd_{service}_1"], self.environment))[0]
        return found

    def _is_healthy(self, service: str) -> bool:
        state = self._inspect(service)["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _detect(self) -> dict[str, Any]:
        answer = self.client.post("/detect", files={"image": PICTURE}, data={"prompt": ["寻找短路", "find spurs"]})
        require(answer.status_code == 200, f"POST /detect: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        require(found["counts"] == {"short": 2, "spur": 1}, f"POST /detect found {found['counts']}")
        return found

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        begin = time.monotonic()
        work()
        self.figures[name] = round(time.monotonic() - begin, 1)

    def _succeeds(self, *command: str) -> bool:
        try:
            run(list(command), self.environment)
        except TrialError:
            return False
        return True


def main() -> int:
    """Runs the command line; 1 at the first thing that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the daemon's data; delete it afterwards")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    try:
        with daemon(arguments.work) as environment:
            begin = time.monotonic()
            trial = Trial(arguments.work, {**environment, **stand_in_images(arguments.work, environment)})
            trial.figures["stand_ins_s"] = round(time.monotonic() - begin, 1)
            steps = [step for name, step in vars(Trial).items() if not name.startswith("_")]
            try:
                for step in steps:
                    print(step.__name__.replace("_", " "), file=sys.stderr, flush=True)  # noqa: T201
                    step(trial)
            finally:
                trial._compose("down", "--volumes")
    except TrialError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(trial.figures))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
