"""The C library's heap: the large blocks of a request (pixels, tiles, messages) are kept for the next one.

By itself glibc gives blocks of a megabyte back to the system as soon as they are free, and every request then has the
system clear some 7 MB of pages anew, which takes longer than what is done with them.

All threads share what is kept: by itself glibc has a heap for each of them, and each keeps the most that it ever held.
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST_BYTES = 32 * 2**20  # of a block on the heap; glibc allows no more
KEPT_BYTES = 64 * 2**20  # free at the heap's end


def keep_large_blocks() -> None:
    """For this process, from now on; does nothing where the C library is another."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)
