"""The heap: large blocks are cleared by the system once, not for every request, and threads share them."""

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


SHARED = """
import sys
from pathlib import Path
from threading import Barrier, Thread
from gateway.heap import keep_large_blocks

if sys.argv[1] == "kept":
    keep_large_blocks()

def resident_kilobytes():
    return int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmRSS")).split()[1])

small = []

def work():
    large = []
    for _ in range(40):
        large.append(bytearray(b"1") * 1_000_000)
        small.append(bytearray(b"1") * 100_000)  # stays, so that the end of a heap is not free

def in_turn(own):
    for turn in range(8):
        barrier.wait()
        if turn == own:
            work()

barrier = Barrier(8)
before = resident_kilobytes()
threads = [Thread(target=in_turn, args=(each,)) for each in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(resident_kilobytes() - before)
"""


def told(script: str, how: str) -> int:
    command = [sys.executable, "-c", script, how]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_large_blocks_are_used_again_without_a_page_fault() -> None:
    assert told(BLOCKS, "kept") < 100
    assert told(BLOCKS, "given back") > 1000  # otherwise the C library has learned it, and gateway/heap.py can go


def test_what_one_thread_gives_back_another_uses() -> None:
    assert told(SHARED, "kept") < 100_000  # KB: 40 MB of large ones, 32 MB of small ones
    assert told(SHARED, "each its own") > 150_000
