"""Instances are processes of their own: an engine that bound itself to cores would share the first with all others."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from export.runtime.engine import load_engine
from tests.conftest import REPOSITORY


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is all there is")
def test_an_engine_at_work_may_run_on_every_core() -> None:
    engine = load_engine(REPOSITORY / "detector" / "1", threads=1)
    inputs = {
        "IMAGE": np.zeros((4, 256, 256, 3), np.uint8),
        "PROMPT_EMBEDDINGS": np.ones((4, 2, 192), np.float32),
    }
    ended, seen = threading.Event(), set[str]()

    def watch() -> None:
        while not ended.wait(0.001):
            for status in Path("/proc/self/task").glob("*/status"):
                seen.update(line for line in status.read_text().splitlines() if line.startswith("Cpus_allowed_list"))

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(3):
        engine.run(inputs)
    ended.set()
    watching.join()
    assert len(seen) == 1
