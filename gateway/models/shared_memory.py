"""A piece of system shared memory, in slots: what is written there Triton reads, on the same host, without a copy.

A slot holds the inputs of one inference. The file is locked while its owner lives, however that ends: one that can be
locked is an orphan. Knows nothing of Triton, which must be told of it.
"""

import fcntl
import mmap
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import DETECTOR, NUMPY_DTYPES, PROMPT_BUCKETS, Dimensions

FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open, and so Triton, looks for "/NAME"
PREFIX = "pcbd-gateway-"
SLOTS = 16  # inferences at a time; more go without
ALIGNMENT_BYTES = 64


class SharedMemory:
    """A region of SLOTS slots; `key` is what shm_open knows it by.

    Raises:
        OSError: the host has no room for it.
    """

    def __init__(self, slot_bytes: int) -> None:
        self.name = f"{PREFIX}{uuid.uuid4().hex}"
        self.key = f"/{self.name}"
        self.slot_bytes = slot_bytes
        self.size_bytes = SLOTS * slot_bytes
        self._free = list(range(SLOTS))
        descriptor = os.open(FOLDER / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.posix_fallocate(descriptor, 0, self.size_bytes)  # else a full folder would end the process later
            self._memory = mmap.mmap(descriptor, self.size_bytes)  # with a copy of the descriptor, and so of the lock
        except OSError:
            (FOLDER / self.name).unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    @contextmanager
    def placed(self, arrays: Sequence[NDArray[Any]]) -> Iterator[list[int] | None]:
        """While arrays lie side by side in a slot: the offset of each; None where none is free or they do not fit."""
        sizes = [-(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for array in arrays]
        if not self._free or sum(sizes) > self.slot_bytes:
            yield None
            return
        slot = self._free.pop()
        try:
            offsets = [slot * self.slot_bytes + sum(sizes[:index]) for index in range(len(sizes))]
            for array, offset in zip(arrays, offsets, strict=True):
                np.frombuffer(self._memory, array.dtype, array.size, offset)[:] = array.ravel()
            yield offsets
        finally:
            # A cancelled inference may still be read by Triton: it then reads another's tiles, and nobody its answer.
            self._free.append(slot)

    def close(self) -> None:
        """Gives the memory back; Triton keeps what it was told of until it is told otherwise."""
        (FOLDER / self.name).unlink(missing_ok=True)
        self._memory.close()


def slot_bytes(dimensions: Dimensions) -> int:
    """What the largest inference of the detector takes."""
    sizes = []
    for tensor in DETECTOR.inputs:
        dims = (PROMPT_BUCKETS[-1] if dim == -1 else dim for dim in tensor.dims(dimensions))
        sizes.append(DETECTOR.max_batch_size * prod(dims) * np.dtype(NUMPY_DTYPES[tensor.dtype]).itemsize)
    return sum(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes)


def remove_orphans() -> list[str]:
    """Deletes what gateways that were killed have left, and returns its names."""
    removed = []
    for path in FOLDER.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:  # gone already, or another user's
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            removed.append(path.name)
        except BlockingIOError:
            pass  # its gateway lives
        finally:
            os.close(descriptor)
    return removed
