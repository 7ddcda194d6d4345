"""Where trials take place: one stub Triton, and gateways before it, processes with logs and databases of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from gateway.parent import stop_with_parent
from gateway.up import free_port
from tests.chaos.stub import STUB_S, StubTriton
from tests.chaos.trial import Scale
from tests.conftest import ROOT

PATIENCE_S = 60.0
HASTY_S = 2.0
QUICK_LIMITS = {"head_timeout_s": "2", "body_timeout_s": "2", "send_timeout_s": "2"}
KEEPING = {"review_random_share": "1"}  # every picture


class Gateway:
    """One `python -m gateway` on a port of its own."""

    def __init__(
        self, folder: Path, triton_url: str, repository: Path, prefix: Sequence[str], settings: dict[str, str]
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.log = folder / "gateway.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "port": str(self.port),
            "triton_url": triton_url,
            "model_repository": str(repository),
            "database_url": f"sqlite:///{folder}/gateway.db",
            "log_format": "json",
            **settings,
        }
        self._prefix = prefix
        self.start()
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def start(self) -> None:
        """Starts it, again if it has ended; returns at once."""
        environment = {f"PCBD_{name.upper()}": value for name, value in self.settings.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "gateway"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stderr=log,
                preexec_fn=stop_with_parent,
            )

    def status(self, path: str) -> int:
        """Of a GET; 0 where nobody answers."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> float:
        """Seconds until it says that it is ready."""
        return wait_until(lambda: self.status("/readyz") == 200, f"{self.url} to be ready; {self.log}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return int(psutil.Process(self.process.pid).num_fds())

    def stop(self) -> None:
        """Ends it, whatever state it is in."""
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Grounds:
    """A context; Triton and the gateway that trials share are started when they are first asked for."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self._stack = ExitStack()
        self._gateways = 0

    @cached_property
    def triton(self) -> StubTriton:
        """Ready, with its usual delay."""
        triton = StubTriton(self.folder)
        self._stack.callback(triton.stop)
        triton.start()
        return triton

    @cached_property
    def shared(self) -> Gateway:
        """A gateway that trials share which leave it as it was; ready."""
        return self._stack.enter_context(self.gateway(image_store=f"file://{self.folder}/images", **KEEPING))

    @cached_property
    def impatient(self) -> Gateway:
        """The same for trials that wait until it gives a client up, which is sooner in the short form; ready."""
        if not self.scale.short:
            return self.shared
        store = f"file://{self.folder}/images-of-the-impatient"
        return self._stack.enter_context(self.gateway(image_store=store, **KEEPING, **QUICK_LIMITS))

    @cached_property
    def hasty(self) -> Gateway:
        """Another that is shared, whose requests have HASTY_S; ready."""
        return self._stack.enter_context(self.gateway(deadline_s=str(HASTY_S)))

    @contextmanager
    def gateway(self, prefix: Sequence[str] = (), **settings: str) -> Iterator[Gateway]:
        """A gateway of a trial's own, ready; `prefix` is a command that starts it, `settings` are PCBD_* variables."""
        self._gateways += 1
        folder = self.folder / f"gateway-{self._gateways}"
        url = settings.pop("triton_url", None) or self.triton.url  # which is started only where it is needed
        repository = Path(settings.pop("model_repository", None) or self.triton.repository)
        gateway = Gateway(folder, url, repository, prefix, settings)
        try:
            gateway.wait_ready()
            yield gateway
        finally:
            gateway.stop()

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """While a tile takes another time than usual."""
        self.triton.delay(seconds)
        try:
            yield
        finally:
            self.triton.delay(STUB_S)

    def __enter__(self) -> "Grounds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """Polls, since the state is another process's; the seconds that it took.

    Raises:
        TimeoutError: it has not come within `patience_s`.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience_s:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(0.01)
    return time.monotonic() - began
