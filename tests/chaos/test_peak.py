"""What a process has held and given back is still seen."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.peak import forget_peak, peak_rss_bytes

HELD_BYTES = 100 * 2**20
HOLDS = """
import mmap, sys
for line in sys.stdin:
    held = mmap.mmap(-1, int(line))
    held.write(b"x" * len(held))
    held.close()
    print("given back", flush=True)
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        yield process
        process.stdin.close()


def hold(process: subprocess.Popen[str], size: int) -> None:
    """Has it take so many bytes and give them back."""
    process.stdin.write(f"{size}\n")
    assert process.stdout.readline() == "given back\n"


def test_memory_that_was_given_back_is_seen_and_forgotten(holder: subprocess.Popen[str]) -> None:
    hold(holder, 1)
    before = peak_rss_bytes(holder.pid)
    hold(holder, HELD_BYTES)
    assert peak_rss_bytes(holder.pid) - before >= HELD_BYTES
    forget_peak(holder.pid)
    assert peak_rss_bytes(holder.pid) - before < HELD_BYTES / 2
