"""The most memory that a process has held at any moment, not what it holds when it is looked at; Linux only."""

from pathlib import Path


def forget_peak(pid: int) -> None:
    """From now on `peak_rss_bytes` is of what comes; it begins with what the process holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def peak_rss_bytes(pid: int) -> int:
    """Resident memory at its most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
