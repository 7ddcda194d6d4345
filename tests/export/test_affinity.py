"""Instances are processes of their own: an engine that bound itself to cores would share the first with all others."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, ROOT

WATCHED = """
import sys, threading
from pathlib import Path
import numpy as np
from export.runtime.engine import load_engine

engine = load_engine(Path(sys.argv[1]), threads=1)
inputs = {"IMAGE": np.zeros((4, 256, 256, 3), np.uint8), "PROMPT_EMBEDDINGS": np.ones((4, 2, 192), np.float32)}
own, ended, seen = threading.main_thread().native_id, threading.Event(), set()

def watch():
    while not ended.wait(0.001):
        lines = Path(f"/proc/self/task/{own}/status").read_text().splitlines()
        seen.update(line for line in lines if line.startswith("Cpus_allowed_list"))

watching = threading.Thread(target=watch)
watching.start()
for _ in range(3):
    engine.run(inputs)
ended.set()
watching.join()
print(len(seen))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is all there is")
def test_an_engine_at_work_may_run_on_every_core() -> None:
    command = [sys.executable, "-c", WATCHED, str(REPOSITORY / "detector" / "1")]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert told.stdout.split()[-1] == "1"
