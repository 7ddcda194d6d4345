"""Every image really built, both profiles really run, by a Docker daemon of its own; needs root and no registry.

    apt-get install --no-install-recommends docker.io docker-compose debootstrap iptables openssl
    python -m tests.docker.trial --work /var/tmp/pcbd-trial [--profile cpu] [--profile gpu]

The files are those of docker/ as they are; only base images are stand-ins (tests/docker/stand_ins.Dockerfile), of which
Grafana's is nothing but its health check. In the profile gpu Docker grants a GPU that is not there, and the images of a
GPU host build and serve engines for a CPU (tests/docker/stand_ins.yaml). Images take some ten minutes and 20 GB, most
of it torch and its like (half with torch's CPU wheel in docker/wheels/); a second run in the same --work takes them
from the daemon's cache. Figures go to stdout as one line of JSON; exit code 1 at the first thing that does not hold.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.docker import operations
from tests.docker.daemon import TrialError, daemon, run, stand_in_images
from tests.docker.service import PICTURE, TAG, Service, require, wait_until

UP_TARGETS = "http://127.0.0.1:9090/api/v1/query?query=up%3D%3D1"
CONTAINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--tmpfs=/tmp")


def images_are_built(service: Service) -> None:
    service.timed("build_s", service.build)


def all_is_healthy_and_detects(service: Service) -> None:
    service.compose("down", "--volumes", "--remove-orphans")
    service.timed("up_from_zero_s", service.up)
    service.figures["export_s"], service.figures["healthy_after_export_s"] = service.export_s()
    service.figures["load_while_up"] = os.getloadavg()[0]
    service.detect()


def prometheus_scrapes_both(service: Service) -> None:
    def up() -> set[str]:
        answer = json.loads(service.compose("exec", "-T", "prometheus", "wget", "-qO-", UP_TARGETS))
        return {series["metric"]["job"] for series in answer["data"]["result"]}

    wait_until(lambda: up() >= {"gateway", "triton"}, "gateway and Triton scraped")


def nothing_has_more_than_it_needs(service: Service) -> None:
    published: dict[str, set[str]] = {}
    for name in service.containers:
        container = service.inspect(name)
        ports = [port for port in container["NetworkSettings"]["Ports"].values() if port]
        published |= {name: {binding["HostIp"] for port in ports for binding in port}} if ports else {}
        lines = Path(f"/proc/{container['State']['Pid']}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        require("0" not in status["Uid"].split(), f"{name} runs as root")
        require(int(status["CapBnd"], 16) == 0, f"{name} may get capabilities {status['CapBnd']}")
        require(status["NoNewPrivs"] == "1", f"{name} may get privileges")
    require(published == {service.gateway: {"127.0.0.1"}, "grafana": {"127.0.0.1"}}, f"published: {published}")


def the_gpu_is_reserved(service: Service) -> None:
    """And Triton's image has the bindings of CUDA, which need no GPU to be imported."""
    for name in (service.export, service.triton):
        asked = [
            (device["Driver"], device["Count"], device["Capabilities"])
            for device in service.inspect(name)["HostConfig"]["DeviceRequests"]
        ]
        require(asked == [("nvidia", 1, [["gpu"]])], f"{name} reserves {asked}")
    service.compose("exec", "-T", service.triton, "python3", "-c", "import cuda.bindings.runtime")


def the_killed_come_back(service: Service) -> None:
    service.figures["back_after_kill_s"] = {name: service.kill(name) for name in service.containers}
    wait_until(service.is_ready, "the gateway ready")
    service.detect()


def stopping_loses_no_request(service: Service) -> None:
    def ask() -> int:
        return httpx.post(f"{service.client.base_url}/detect", files={"image": PICTURE}, timeout=60).status_code

    def at_work() -> float:
        lines = service.client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("pcbd_in_flight "))

    def stop(name: str) -> None:
        run(["docker", "stop", f"pcbd_{name}_1"], service.environment)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask) for _ in range(4)]
        wait_until(lambda: at_work() >= 2, "requests at work")  # no more: a fast host is done with the first by then
        service.timed("gateway_stop_s", lambda: stop(service.gateway))
        statuses = [answer.result() for answer in answers]
    require(statuses == [200] * 4, f"requests at work when the gateway was stopped: {statuses}")
    service.timed("triton_stop_s", lambda: stop(service.triton))
    codes = [service.inspect(name)["State"]["ExitCode"] for name in (service.gateway, service.triton)]
    require(codes == [0, 0], f"gateway and Triton ended with {codes}")


def up_again_builds_nothing(service: Service) -> None:
    service.compose("down")
    service.timed("up_again_s", service.up)
    log = service.compose("logs", "--no-color", service.export)
    require("nothing to build: there is version 1" in log, log)
    service.detect()


def training_starts(service: Service) -> None:
    """Contained as the Jobs of k8s/ are, and no further: what it does is tested without containers."""
    image = f"pcb-defect-detector/training:{TAG}"
    where = ("docker", "run", "--rm", "--user=10001:10001", "--network=none", *CONTAINED)
    said = run([*where, image, "python", "-m", "training.train", "--help"], service.environment)
    require("--config" in said, said)


BOTH = (
    images_are_built,
    all_is_healthy_and_detects,
    prometheus_scrapes_both,
    nothing_has_more_than_it_needs,
    the_killed_come_back,
    stopping_loses_no_request,
    up_again_builds_nothing,
)
STEPS: dict[str, tuple[Callable[[Service], None], ...]] = {
    "cpu": (
        *BOTH,
        operations.another_precision_is_built_promoted_and_taken_back,
        operations.keys_are_required,
        operations.an_upgrade_and_the_way_back_keep_key_and_catalog,
        operations.a_key_is_replaced,
        operations.the_catalog_is_restored,
        operations.the_database_is_restored,
        operations.https_is_answered,
        operations.a_renewed_certificate_is_served_after_a_restart,
    ),
    "gpu": (*BOTH, the_gpu_is_reserved, training_starts),
}


def main() -> int:
    """Runs the command line; 1 at the first thing that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the daemon's data; delete it afterwards")
    parser.add_argument("--profile", choices=STEPS, action="append", help="by default both")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    try:
        with daemon(arguments.work) as environment:
            begin = time.monotonic()
            images = stand_in_images(arguments.work, environment)
            figures["stand_ins_s"] = round(time.monotonic() - begin, 1)
            for profile in arguments.profile or STEPS:
                service = Service(profile, arguments.work, {**environment, **images})
                figures[profile] = service.figures
                try:
                    for step in STEPS[profile]:
                        print(f"{profile}: {step.__name__.replace('_', ' ')}", file=sys.stderr, flush=True)  # noqa: T201
                        step(service)
                finally:
                    service.compose("down", "--volumes")
    except TrialError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(figures))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
