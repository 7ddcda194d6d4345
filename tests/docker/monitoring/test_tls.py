"""Prometheus asks a gateway with HTTPS as docs/docker.md tells it to; as the file stands it does not reach it."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trustme
import yaml

from gateway.up import free_port
from tests.conftest import ROOT
from tests.docker.monitoring.configuration import PROMETHEUS
from tests.docker.monitoring.stack import process
from tests.gateway.access.test_tls import Files, https_gateway
from tests.gateway.test_failures import status, wait_until


def told_job() -> dict[str, object]:
    """The job in the page's block of YAML."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "docker.md").read_text(), re.DOTALL | re.MULTILINE)
    (job,) = yaml.safe_load(block)
    return dict(job)


@pytest.mark.parametrize("as_told", [True, False])
def test_prometheus_asks_a_gateway_with_https_as_the_page_tells_it_to(as_told: bool, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    files = made(tmp_path)
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = (each for each in settings["scrape_configs"] if each["job_name"] == "gateway")
    if as_told:
        job = told_job()
    with https_gateway(files) as (url, _):
        assert job.pop("static_configs") == [{"targets": ["gateway:8080"]}]
        target = {"static_configs": [{"targets": [url.removeprefix("https://")]}]}
        prometheus = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job | target]}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(prometheus), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        options = {"config.file": tmp_path / "prometheus.yml", "storage.tsdb.path": tmp_path / "data"}
        with (
            process("prometheus", {**options, "web.listen-address": address}, tmp_path),
            httpx.Client(base_url=f"http://{address}") as client,
        ):
            wait_until(lambda: status(client, "/-/ready") == 200)
            wait_until(lambda: health(client) in {"up", "down"})
            assert health(client) == ("up" if as_told else "down")


def health(prometheus: httpx.Client) -> str:
    """Of the only target."""
    targets: list[Mapping[str, str]] = prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
    return targets[0]["health"] if targets else "unknown"


def made(folder: Path) -> Files:
    """The gateway's certificate is for the plant's name alone."""
    authority = trustme.CA()
    issued = authority.issue_cert("pcbd.plant.example")
    files = Files(folder / "ca.pem", folder / "gateway.pem", folder / "gateway.key", folder / "nobody.pem")
    authority.cert_pem.write_to_path(str(files.ca))
    issued.cert_chain_pems[0].write_to_path(str(files.certificate))
    issued.private_key_pem.write_to_path(str(files.key))
    return files
