"""The service of one profile as docker/compose.yaml brings it up: what is done to it, and what is asked of it."""

import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from gateway.up import free_port
from tests.conftest import BOARD
from tests.docker.daemon import TrialError, run

PATIENCE_S = 180.0
TAG = "0.1.0"
FILES = ("--file=docker/compose.yaml", "--file=tests/docker/stand_ins.yaml")
SECRETS = ("DATABASE_URL_FILE", "GRAFANA_PASSWORD_FILE", "ALERT_PAGE_URL_FILE", "ALERT_TICKET_URL_FILE")
PICTURE = BOARD.read_bytes()


def require(holds: bool, otherwise: str) -> None:
    """Ends the trial where something does not hold."""
    if not holds:
        raise TrialError(otherwise)


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Polls, since the state is another process's."""
    deadline = time.monotonic() + patience_s
    while not condition():
        require(time.monotonic() < deadline, f"waited in vain for: {what}")
        time.sleep(0.2)


class Service:
    """One profile's containers and figures; its environment, files and client are what the next command uses."""

    def __init__(self, profile: str, work: Path, environment: dict[str, str]) -> None:
        self.profile = profile
        self.work = work
        suffix = "-cpu" if profile == "cpu" else ""
        self.export, self.triton, self.gateway = f"export{suffix}", f"triton{suffix}", f"gateway{suffix}"
        self.containers = (self.triton, self.gateway, "prometheus", "alertmanager", "grafana")
        ports = {"GATEWAY_PORT": str(free_port()), "GRAFANA_PORT": str(free_port())}
        files = {name: str(work / "secrets" / name) for name in SECRETS}
        (work / "secrets").mkdir(exist_ok=True)
        for path in map(Path, files.values()):
            is_database = path.name == "DATABASE_URL_FILE"
            path.write_text(
                "sqlite:////data/gateway.db\n" if is_database else f"http://127.0.0.1/{secrets.token_hex()}\n"
            )
        self.environment = {**environment, **ports, **files, "PCBD_TAG": TAG}
        self.files: tuple[str, ...] = FILES
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{ports['GATEWAY_PORT']}", timeout=PATIENCE_S)
        self.figures: dict[str, Any] = {}

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Does it, and notes how long that took."""
        begin = time.monotonic()
        work()
        self.figures[name] = round(time.monotonic() - begin, 1)

    def build(self) -> None:
        """Its images, by docker/build.sh."""
        run(["docker/build.sh", self.profile, "--network=host"], self.environment)

    def compose(self, *arguments: str, stdin: str = "") -> str:
        """What `docker compose` printed."""
        return run(["docker-compose", *self.files, f"--profile={self.profile}", *arguments], self.environment, stdin)

    def in_gateway(self, *command: str, stdin: str = "") -> str:
        """What a command printed that was run in the gateway's container."""
        return self.compose("exec", "-T", self.gateway, *command, stdin=stdin)

    def up(self) -> None:
        """Brings it up, or to what environment and files say now; returns when all of it is healthy."""
        self.compose("up", "--detach", "--no-build")
        wait_until(lambda: all(map(self.is_healthy, self.containers)), "everything healthy")

    def inspect(self, container: str) -> dict[str, Any]:
        """What Docker knows of a container."""
        found: dict[str, Any] = json.loads(run(["docker", "inspect", f"pcbd_{container}_1"], self.environment))[0]
        return found

    def export_s(self) -> tuple[float, float]:
        """How long the export ran, and how long ago it ended."""
        state = self.inspect(self.export)["State"]
        started, finished = (datetime.fromisoformat(state[name]) for name in ("StartedAt", "FinishedAt"))
        since = datetime.now(UTC) - finished
        return round((finished - started).total_seconds(), 1), round(since.total_seconds(), 1)

    def is_healthy(self, container: str) -> bool:
        """By its own health check."""
        state = self.inspect(container)["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def is_ready(self) -> bool:
        """Whether the gateway says so to those outside."""
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self, container: str) -> float:
        """Kills its first process as the kernel does it when memory is short; seconds until it was healthy again."""
        before = self.inspect(container)
        begin = time.monotonic()
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        wait_until(lambda: self.inspect(container)["RestartCount"] > before["RestartCount"], f"{container} again")
        wait_until(lambda: self.is_healthy(container), f"{container} healthy again")
        return round(time.monotonic() - begin, 1)

    def detect(self) -> dict[str, Any]:
        """The answer to the board of the README."""
        answer = self.client.post("/detect", files={"image": PICTURE}, data={"prompt": ["寻找短路", "find spurs"]})
        require(answer.status_code == 200, f"POST /detect: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        require(found["counts"] == {"short": 2, "spur": 1}, f"POST /detect found {found['counts']}")
        return found
