"""All servers of the comparison, up at once: Triton, the gateway before it, and what a user would put up instead.

Each has one thread to compute with. Started under `taskset -c N`, servers and load share that processor, and only one
server is asked at a time.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from export.contract.boxes import Detections
from export.contract.defects import DEFECTS
from export.contract.tensors import DETECTOR
from export.contract.tiles import merge_tiles
from export.server import TritonServer
from gateway.models.grounding import grounding_reading
from gateway.models.prompts import PromptEmbeddings
from gateway.models.scan import Read
from gateway.models.served import Served, describe
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from gateway.request.parameters import DetectParameters
from gateway.up import free_port
from tests.benchmarks.service.process import running
from tests.benchmarks.service.question import PROMPTS, TILE, Question
from tests.benchmarks.service.reply import Reply
from tests.conftest import REPOSITORY, ROOT

LITSERVE = ROOT / "build" / "litserve" / "bin" / "python"
PER_PROMPT, IMAGE_ONCE, LIT = "FastAPI, generate per prompt", "FastAPI, image once", "LitServe, image once"
PATIENCE_S = 600.0  # of a client
WHOLE_RUN_S = 24 * 3600.0
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
        return Reply(reply.status_code, json.loads(reply.content), reply.headers)


class DirectTriton:
    """Triton asked by gRPC alone, with tiles that are cut and words that are embedded: what no gateway can be below."""

    def __init__(self, triton: Triton, served: Served, read: Read, processes: tuple[psutil.Process, ...]) -> None:
        self.processes = processes
        self._triton, self._served, self._read = triton, served, read

    @classmethod
    async def of(cls, server: TritonServer) -> "DirectTriton":
        """With the prompts' embeddings."""
        triton = Triton(server.grpc_url)
        served = await describe(triton)
        prompts = PromptEmbeddings(triton, served, REPOSITORY)
        read = await grounding_reading(triton, served, prompts, PROMPTS, Deadline.within(WHOLE_RUN_S))
        return cls(triton, served, read, (psutil.Process(server.pid),))

    async def ask(self, question: Question) -> Reply:
        """All tiles in as many batches as the gateway makes."""
        batches = np.array_split(question.tiles, -(-len(question.tiles) // DETECTOR.max_batch_size))
        return Reply(200, await asyncio.gather(*(self._read(batch) for batch in batches)))

    def boxes(self, question: Question, reply: Reply) -> Detections:
        """What the answer says by the rules of the gateway's defaults; this is not timed."""
        defaults = DetectParameters()
        boxes, scores = (np.concatenate([each[part] for each in reply.content]) for part in (0, 1))
        return merge_tiles(
            boxes,
            scores,
            question.origins,
            question.resolution_wh,
            TILE,
            score_threshold=[self._served.score_threshold(defect.id) for defect in DEFECTS],
            nms_threshold=defaults.nms_threshold,
            max_detections=defaults.max_detections,
        )

    async def close(self) -> None:
        """Ends the connection."""
        await self._triton.close()


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
