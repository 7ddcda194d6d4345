"""All servers of the comparison, up at once: Triton, the gateway before it, and what a user would put up instead.

Each has one thread to compute with. Started under `taskset -c N`, servers and load share that processor, and only one
server is asked at a time.
"""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from export.server import TritonServer
from gateway.up import free_port
from tests.benchmarks.service.direct import DirectTriton
from tests.benchmarks.service.process import running
from tests.benchmarks.service.question import Question
from tests.benchmarks.service.reply import Reply
from tests.conftest import ROOT

LITSERVE = ROOT / "build" / "litserve" / "bin" / "python"
MAKE_LITSERVE = """python3.11 -m venv build/litserve
echo "$PWD/.venv-dev/lib/python3.11/site-packages" > build/litserve/lib/python3.11/site-packages/dev.pth
build/litserve/bin/pip install litserve==0.2.19"""
PER_PROMPT, IMAGE_ONCE, LIT = "FastAPI, generate per prompt", "FastAPI, image once", "LitServe, image once"
DIRECT, GATEWAY, GENERATIVE = "Triton by gRPC, grounding", "gateway, grounding", "gateway, generative"
PATIENCE_S = 600.0  # of a client
COMMANDS: Mapping[str, tuple[str, ...]] = {
    PER_PROMPT: (sys.executable, "-m", "tests.benchmarks.service.fastapi_server", "--way", "per_prompt"),
    IMAGE_ONCE: (sys.executable, "-m", "tests.benchmarks.service.fastapi_server", "--way", "image_once"),
    LIT: (str(LITSERVE), "-m", "tests.benchmarks.service.litserve_server"),
}


@dataclass(frozen=True)
class HttpServer:
    """One that answers POST /detect, and the processes that work for it."""

    client: httpx.AsyncClient
    processes: tuple[psutil.Process, ...]

    async def ask(self, question: Question) -> Reply:
        """One request; a connection that breaks is a status of 0."""
        try:
            reply = await self.client.post(
                "/detect", content=question.body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            return Reply(0, str(error))
        is_json = "json" in reply.headers.get("Content-Type", "")
        return Reply(reply.status_code, json.loads(reply.content) if is_json else reply.text, reply.headers)


@dataclass(frozen=True)
class Servers:
    """What is up; `peers` by name."""

    triton: TritonServer
    direct: DirectTriton
    gateway: HttpServer
    peers: Mapping[str, HttpServer]


@asynccontextmanager
async def servers(
    triton: TritonServer, folder: Path, peers: tuple[str, ...] = (), **settings: str
) -> AsyncIterator[Servers]:
    """What is asked about that Triton, a gateway before it and the peers; logs and database lie in `folder`.

    The gateway has its defaults but for `settings`.
    """
    async with AsyncExitStack() as stack:
        direct = await DirectTriton.of(triton)
        stack.push_async_callback(direct.close)
        front = await stack.enter_async_context(gateway(triton, folder / "gateway", **settings))
        others = {}
        for number, name in enumerate(peers):
            port = free_port()
            command = [*COMMANDS[name], "--port", str(port)]
            url = f"http://127.0.0.1:{port}"
            process = stack.enter_context(running(command, f"{url}/health", folder / f"peer{number}.log"))
            others[name] = HttpServer(await stack.enter_async_context(_client(url)), (process,))
        yield Servers(triton, direct, front, others)


@asynccontextmanager
async def gateway(triton: TritonServer, folder: Path, **settings: str) -> AsyncIterator[HttpServer]:
    """A gateway before that Triton, with the defaults of all settings but those named, without PCBD_."""
    folder.mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "PORT": str(port),
        "TRITON_URL": triton.grpc_url,
        "DATABASE_URL": f"sqlite:///{folder}/gateway.db",
        "MODEL_REPOSITORY": str(triton.model_repository),
        **settings,
    }
    environment = {f"PCBD_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "gateway"]
    with running(command, f"{url}/readyz", folder / "log", **environment) as process:
        async with _client(url) as client:
            yield HttpServer(client, (process, psutil.Process(triton.pid)))


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits)
