"""The stub: the real Triton with Python models of a fixed time, in a process that can be killed and started again.

Two instances of the detector answer one tile each in `STUB_S`, so its capacity is known and is Triton's, not the
processor's: 40 tiles a second. `delay` changes the time while it serves, `workspace` its memory. Knows no gateway.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from export.server import SHARED_MEMORY
from gateway.parent import stop_with_parent
from gateway.up import free_port
from tests.conftest import REPOSITORY, ROOT

STUB_S = 0.05
PATIENCE_S = 60.0
MODEL = '''"""Answers with eight boxes above the threshold, with as much time and memory as its files say."""

import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self.delay, self.workspace = folder / "delay_s", folder / "workspace_mb"

    def execute(self, requests):
        return [pb_utils.InferenceResponse(output_tensors=self._outputs(request)) for request in requests]

    def _outputs(self, request):
        ids = pb_utils.get_input_tensor_by_name(request, "INPUT_IDS")
        if ids is not None:
            return [pb_utils.Tensor("PROMPT_EMBEDDINGS", np.ones((ids.shape()[0], 192), np.float32))]
        workspace = np.ones(int(self.workspace.read_text()) << 20, np.uint8)
        time.sleep(float(self.delay.read_text()))
        rows, prompts, _ = pb_utils.get_input_tensor_by_name(request, "PROMPT_EMBEDDINGS").shape()
        corners = np.random.default_rng(0).random((rows, 100, 2), np.float32) * 0.8
        scores = np.full((rows, 100, prompts), 0.01, np.float32)
        scores[:, :8, 0] = 0.6
        boxes = np.concatenate([corners, corners + 0.1], axis=2)
        return [pb_utils.Tensor("BOXES", boxes), pb_utils.Tensor("SCORES", scores)]
'''


class StubTriton:
    """One Triton on ports of its own, started by the command `prefix`; its log is triton.log beside its repository."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.repository = folder / "models"
        self._prefix = prefix
        self._log = folder / "triton.log"
        self._ports = {name: free_port() for name in ("http", "grpc", "metrics")}
        self.url = f"127.0.0.1:{self._ports['grpc']}"
        self.metrics = f"127.0.0.1:{self._ports['metrics']}"
        self._process: subprocess.Popen[bytes] | None = None
        _lay_out(self.repository)
        self.delay(STUB_S)
        self.workspace(0)

    def delay(self, seconds: float) -> None:
        """What a tile takes from now on."""
        self._tell("delay_s", str(seconds))

    def workspace(self, megabytes: int) -> None:
        """The memory that the detector takes while it looks at a tile, from now on."""
        self._tell("workspace_mb", str(megabytes))

    def _tell(self, name: str, value: str) -> None:
        file = self.repository / "detector" / "1" / name
        partial = file.with_suffix(".partial")
        partial.write_text(value)
        partial.replace(file)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        command = [*self._prefix, sys.executable, "-m", "export.server", "--model-repository", str(self.repository)]
        command += [f"--{name}-port={port}" for name, port in self._ports.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=stop_with_parent)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers("http", "/v2/health/ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the stub Triton did not become ready, exit code {self._process.poll()}: {said}")
            time.sleep(0.02)

    @property
    def server(self) -> psutil.Process:
        """The process of tritonserver itself, not of its launcher."""
        return next(
            child for child in psutil.Process(self._launcher.pid).children() if child.name().startswith("tritonserver")
        )

    def kill(self) -> None:
        """SIGKILL to tritonserver; its launcher notices, removes what it leaves, and ends."""
        self.server.kill()
        self._launcher.wait(PATIENCE_S)

    def wait(self) -> int:
        """Until it has ended by itself; its launcher's exit code."""
        return self._launcher.wait(PATIENCE_S)

    def ask_to_end(self) -> None:
        """SIGTERM to the launcher, as an orchestrator sends it."""
        self._launcher.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()  # Triton dies with its launcher
            self._process.wait()
            self._clear(children)

    def _clear(self, children: list[psutil.Process]) -> None:
        """Instances of a Triton whose launcher was killed live on, and so does their shared memory."""
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        for region in self._regions():
            region.unlink(missing_ok=True)

    def pending(self) -> float:
        """Requests to the detector that wait for an instance, as Triton's metrics have it."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return float(re.findall(r'nv_inference_pending_request_count\{model="detector".*\} (\S+)', text)[0])

    def shared_memory(self) -> int:
        """How many of its regions lie in /dev/shm."""
        return len(self._regions())

    def _regions(self) -> list[Path]:
        return list(SHARED_MEMORY.glob(f"pcbd{self._launcher.pid}_*"))

    @property
    def _launcher(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start it first"
        return self._process

    def _answers(self, port: str, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[port]}{path}", timeout=2):
                return True
        except OSError:
            return False


def _lay_out(repository: Path) -> None:
    for name in ("detector", "prompt_encoder"):
        own = repository / name / "1"
        own.mkdir(parents=True)
        config = (REPOSITORY / name / "1" / "config.pbtxt").read_text()
        if name == "detector":
            config = config.replace("max_batch_size: 8", "max_batch_size: 1")  # one tile, one fixed time
            # Its queue's own limit, 10 s, would drop what the gateway has to cancel.
            config = re.sub("(default_timeout_microseconds): [0-9]+", r"\1: 600000000", config)
        (own.parent / "config.pbtxt").write_text(config)
        shutil.copy(REPOSITORY / name / "1" / "manifest.json", own)
        (own / "model.py").write_text(MODEL)
    shutil.copy(REPOSITORY / "prompt_encoder" / "1" / "tokenizer.json", repository / "prompt_encoder" / "1")
