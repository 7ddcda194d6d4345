"""The heap: large blocks are cleared by the system once, not for every request."""

import subprocess
import sys

from tests.conftest import ROOT

BLOCKS = """
import resource, sys
from gateway.heap import keep_large_blocks

if sys.argv[1] == "kept":
    keep_large_blocks()

def work():
    blocks = [bytearray(1_800_000) for _ in range(4)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", BLOCKS, how]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_large_blocks_are_used_again_without_a_page_fault() -> None:
    assert faults("kept") < 100
    assert faults("given back") > 1000  # otherwise the C library has learned it, and gateway/heap.py can go
