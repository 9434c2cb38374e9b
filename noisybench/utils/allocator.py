"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, from malloc.h."""

LARGEST_REUSED = (2**30, 2**25)
"""Bytes of the largest blocks to keep, in order of preference: glibc before 2.35 accepts at most 32 MiB."""


def keep_freed_memory() -> bool:
    """Let this process, and those forked from it, keep the memory that they free, and reuse it.

    By default glibc returns large blocks to the system. A training step on a CPU frees and allocates the same activations
    again, and the system would clear every page of them in every step: a fifth of the time of small convolutional
    networks. The peak of the memory stays the same.

    Returns:
        False if the C library has no such settings.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    # First, because the second parameter alone would fix the size from which blocks are returned at its small default.
    accepted = any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST_REUSED)
    return accepted and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
