"""A real Prometheus and a real Alertmanager before the real gateway and Triton, with a minute that lasts a second."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from export.server import TritonServer
from gateway.up import free_port
from tests.conftest import BOARD, REPOSITORY, embedded_triton
from tests.docker.monitoring.alert_post import AlertPost, alert_post
from tests.docker.monitoring.configuration import write_copies
from tests.gateway.test_failures import gateway, status, wait_until

PROGRAMS = ("prometheus", "prometheus-alertmanager")
CORNER = (100, 60, 356, 316)  # of the board: one tile, with a short in it
SLOW_MODEL = '''"""The model of this folder; while the file {slow} exists, each execution takes a second more."""
import time
from pathlib import Path

from export.runtime.backend import TritonPythonModel as Model


class TritonPythonModel(Model):
    def execute(self, requests):
        if Path("{slow}").exists():
            time.sleep(1)
        return super().execute(requests)
'''


@dataclass
class Stack:
    """What runs."""

    triton: TritonServer
    gateway: httpx.Client
    prometheus: httpx.Client
    alertmanager: httpx.Client
    post: AlertPost
    slow: Path  # a file: while it exists, the detector is slow

    def detect(self, *prompts: str) -> httpx.Response:
        """Asks for defects in one tile of a board."""
        return self.gateway.post("/detect", files={"image": one_tile()}, data={"prompt": prompts or ("短路",)})

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers now; its error fails the test."""
        answer = self.prometheus.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer["error"])
        assert not answer.get("warnings"), (expression, answer["warnings"])
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


def one_tile() -> bytes:
    """A picture that is one tile."""
    data = BytesIO()
    Image.open(BOARD).crop(CORNER).save(data, "PNG")
    return data.getvalue()


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """All of it, scraped at least once."""
    repository, slow = folder / "model_repository", folder / "slow"
    shutil.copytree(REPOSITORY, repository, symlinks=True, ignore=shutil.ignore_patterns("generator"))  # not asked here
    (repository / "detector" / "1" / "model.py").write_text(SLOW_MODEL.format(slow=slow), encoding="utf-8")
    with ExitStack() as context:
        post = context.enter_context(alert_post())
        triton = context.enter_context(embedded_triton(repository))
        client, _ = context.enter_context(
            gateway(
                triton.grpc_url,
                model_repository=str(repository),
                database_url=f"sqlite:///{folder}/gateway.db",
                image_store=f"file://{folder}/images",
                review_random_share="1",
            )
        )
        wait_until(lambda: status(client, "/readyz") == 200)
        ports = {name: free_port() for name in ("prometheus", "alertmanager")}
        addresses = {
            "gateway:8080": client.base_url.netloc.decode(),
            "triton:8002": triton.metrics_url,
            "alertmanager:9093": f"127.0.0.1:{ports['alertmanager']}",
            "127.0.0.1:9090": f"127.0.0.1:{ports['prometheus']}",
        }
        prometheus, alertmanager = write_copies(folder, addresses, post.url)
        clients = {}
        for name, configuration, options in (
            ("prometheus", prometheus, {"storage.tsdb.path": folder / "prometheus"}),
            ("alertmanager", alertmanager, {"storage.path": folder / "alertmanager", "cluster.listen-address": ""}),
        ):
            address = f"127.0.0.1:{ports[name]}"
            context.enter_context(
                process(name, {"config.file": configuration, "web.listen-address": address, **options}, folder)
            )
            clients[name] = context.enter_context(httpx.Client(base_url=f"http://{address}"))
        made = Stack(triton, client, clients["prometheus"], clients["alertmanager"], post, slow)
        wait_until(lambda: all(status(each, "/-/ready") == 200 for each in clients.values()))
        yield made


@contextmanager
def process(name: str, options: Mapping[str, object], folder: Path) -> Iterator[None]:
    """Prometheus or Alertmanager; its log goes into the folder."""
    program = next(each for each in PROGRAMS if each.endswith(name))
    with (folder / f"{name}.log").open("w") as log:
        running = subprocess.Popen(
            [program, *(f"--{option}={value}" for option, value in options.items())], stdout=log, stderr=log
        )
        try:
            yield
        finally:
            running.kill()
            running.wait()
