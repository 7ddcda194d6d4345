"""A memory cgroup of the kernel's, as a container's memory limit is one: version 1 or 2, without a container."""

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.chaos.grounds import wait_until

CGROUPS = Path("/sys/fs/cgroup")
NUMBERS = count()


class GroupError(RuntimeError):
    """No memory cgroup can be made here; the message says why."""


class MemoryGroup:
    """A context; `prefix` starts a command within it, with all that the command starts. Nothing of it is swapped out.

    Raises:
        GroupError: when it is made, where groups cannot be.
    """

    def __init__(self, limit_bytes: int) -> None:
        second = (CGROUPS / "cgroup.controllers").exists()
        self.folder = (CGROUPS if second else _own_of_first()) / f"pcbd-{os.getpid()}-{next(NUMBERS)}"
        self._told = "memory.events" if second else "memory.oom_control"
        limit, swap = ("memory.max", "memory.swap.max") if second else ("memory.limit_in_bytes", "memory.swappiness")
        try:
            if second:
                (CGROUPS / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir()
            (self.folder / limit).write_text(str(limit_bytes))
        except OSError as error:
            if self.folder.exists():
                self.folder.rmdir()
            raise GroupError(f"no memory cgroup can be made in {self.folder.parent}: {error}") from error
        if (self.folder / swap).exists():  # not of a kernel without swap
            (self.folder / swap).write_text("0")

    @property
    def prefix(self) -> Sequence[str]:
        """What stands before a command."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def kills(self) -> int:
        """Processes that the kernel has killed in it for want of memory."""
        lines = (self.folder / self._told).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def __enter__(self) -> "MemoryGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Its processes must have been ended; the kernel takes a moment to forget them."""
        wait_until(self._removed, f"the processes of {self.folder} to be gone")

    def _removed(self) -> bool:
        try:
            self.folder.rmdir()
        except OSError:
            return False
        return True


def _own_of_first() -> Path:
    """The group of this process in version 1, whose limit then holds too; the root where containers hide the path."""
    paths = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = next((path for _, controllers, path in paths if controllers == "memory"), "/")
    folder = CGROUPS / "memory" / own.lstrip("/")
    return folder if folder.exists() else CGROUPS / "memory"
