"""Ties a process to its parent, so that nothing stays behind when a launcher is killed; Linux only."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1


def stop_with_parent() -> None:
    """This process gets SIGTERM when its parent ends, however that comes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
