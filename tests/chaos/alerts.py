"""Alerts as a real Prometheus fires them: the rules of docker/prometheus, with a minute that lasts a second."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway.parent import stop_with_parent
from gateway.up import free_port
from tests.chaos.grounds import wait_until
from tests.docker.monitoring.configuration import write_copies

PROMETHEUS = shutil.which("prometheus")


class Alerts:
    """What the Prometheus that a client asks knows."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def fires(self, name: str) -> bool:
        """Whether it would tell Alertmanager of it now."""
        alerts = self._client.get("/api/v1/alerts").json()["data"]["alerts"]
        return any(each["labels"]["alertname"] == name and each["state"] == "firing" for each in alerts)

    def sees(self, job: str) -> bool:
        """Whether it has reached the job's target."""
        answer = self._client.get("/api/v1/query", params={"query": f'up{{job="{job}"}} == 1'}).json()
        return bool(answer["data"]["result"])

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def alerts(folder: Path, gateway: str, triton: str) -> Iterator[Alerts]:
    """A Prometheus that has reached both, which are HOST:PORT of their metrics; there is no Alertmanager."""
    assert PROMETHEUS is not None, "prometheus is not on the PATH"
    folder.mkdir()
    own = f"127.0.0.1:{free_port()}"
    places = {
        "gateway:8080": gateway,
        "triton:8002": triton,
        "127.0.0.1:9090": own,
        "alertmanager:9093": f"127.0.0.1:{free_port()}",
    }
    configuration, _ = write_copies(folder, places, "http://127.0.0.1")
    options = {"config.file": configuration, "web.listen-address": own, "storage.tsdb.path": folder / "data"}
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [PROMETHEUS, *(f"--{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=log,
            preexec_fn=stop_with_parent,
        )
    try:
        with httpx.Client(base_url=f"http://{own}", timeout=10) as client:
            found = Alerts(client)
            wait_until(found.is_ready, f"Prometheus; {log.name}")
            wait_until(lambda: found.sees("gateway") and found.sees("triton"), "Prometheus to reach both")
            yield found
    finally:
        process.kill()
        process.wait()
