"""A memory group kills what takes more than its limit, and nothing else."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cgroup import GroupError, MemoryGroup

LIMIT_BYTES = 64 * 2**20
TAKES = "import sys; taken = b'x' * int(sys.argv[1])"


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        made = MemoryGroup(LIMIT_BYTES)
    except GroupError as error:
        pytest.skip(str(error))
    with made:
        yield made
    assert not made.folder.exists()


def taking(group: MemoryGroup, size: int) -> int:
    """The exit code of a process of the group that takes so many bytes."""
    return subprocess.run([*group.prefix, sys.executable, "-c", TAKES, str(size)], check=False, timeout=60).returncode


def test_the_kernel_kills_what_takes_more_than_the_limit(group: MemoryGroup) -> None:
    assert (taking(group, LIMIT_BYTES // 4), group.kills()) == (0, 0)
    assert (taking(group, LIMIT_BYTES * 2), group.kills()) == (-signal.SIGKILL, 1)


def test_without_a_writable_cgroup_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.cgroup.CGROUPS", tmp_path / "nothing")
    with pytest.raises(GroupError, match="no memory cgroup can be made"):
        MemoryGroup(LIMIT_BYTES)
