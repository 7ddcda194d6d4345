"""Where a report comes from: when, on which machine, of which revision and by which command it was made.

Stands on the standard library alone, since YOLO's environment has little more.
"""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def origin() -> dict[str, Any]:
    """The head of a report: `at`, `machine`, `revision` and `command`; asked for before anything is measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "cores_used": len(os.sched_getaffinity(0)),  # as taskset allows
            "priority": _priority(),
            "load_average": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
        },
        "revision": _revision(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _priority() -> str:
    """As chrt or nice gave it."""
    if os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO):
        return f"real-time {os.sched_getparam(0).sched_priority}"
    return f"nice {os.getpriority(os.PRIO_PROCESS, 0)}"


def _revision() -> str:
    """The commit, and whether files beside the documentation, where reports lie, are not as it has them."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no git, or no repository
    return f"{commit} and changes" if changed else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
