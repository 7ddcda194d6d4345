"""What Alertmanager itself keeps back: what follows from a cause that was told, and nothing of another stack's."""

import shutil
from pathlib import Path

import httpx
import pytest

from gateway.up import free_port
from tests.docker.monitoring.configuration import with_webhook
from tests.docker.monitoring.stack import process
from tests.gateway.test_failures import status, wait_until

Told = tuple[str, str]  # an alert and its job
FOLLOWERS = ("PcbdLatencyBudgetBurns", "PcbdErrors")  # of models that cannot be asked
STABLE = {(name, "gateway") for name in FOLLOWERS}
CANARY = {(name, "gateway-canary") for name in FOLLOWERS}
TARGETS = {("PcbdTargetDown", job) for job in ("gateway", "gateway-canary", "triton", "triton-canary")}


@pytest.mark.parametrize(
    ("cause", "kept_back"),
    [
        (("PcbdModelNotReady", "gateway"), STABLE),
        (("PcbdModelNotReady", "gateway-canary"), CANARY),
        (("PcbdTritonDown", "triton"), {*STABLE, ("PcbdTargetDown", "triton")}),
        (("PcbdGatewayDown", "gateway"), {("PcbdTargetDown", "gateway")}),
        (("PcbdGatewayDown", "gateway-canary"), {("PcbdTargetDown", "gateway-canary")}),
    ],
)
def test_a_cause_keeps_back_what_follows_from_it_in_its_own_stack(
    cause: Told, kept_back: set[Told], tmp_path: Path
) -> None:
    if shutil.which("prometheus-alertmanager") is None:
        pytest.skip("prometheus-alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)")
    configuration = tmp_path / "alertmanager.yml"
    configuration.write_text(with_webhook("http://127.0.0.1:9"), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": configuration, "web.listen-address": address, "storage.path": tmp_path / "data"}
    with (
        process("alertmanager", {**options, "cluster.listen-address": ""}, tmp_path),
        httpx.Client(base_url=f"http://{address}") as client,
    ):
        wait_until(lambda: status(client, "/-/ready") == 200)
        alerts = [
            {
                "labels": {
                    "alertname": name,
                    "job": job,
                    "namespace": "pcbd",
                    **({"depends_on": "models"} if name in FOLLOWERS else {}),
                }
            }
            for name, job in {cause, *STABLE, *CANARY, *TARGETS}
        ]
        client.post("/api/v2/alerts", json=alerts).raise_for_status()

        def inhibited() -> set[Told]:
            return {
                (each["labels"]["alertname"], each["labels"]["job"])
                for each in client.get("/api/v2/alerts").json()
                if each["status"]["inhibitedBy"]
            }

        wait_until(lambda: inhibited() >= kept_back)
        assert inhibited() == kept_back
