"""Child processes and CPU cores."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use.

    Example:
        >>> usable_cores() >= 1
        True
    """
    # `os.cpu_count` also counts cores that a scheduler or `taskset` withholds from this process.
    if hasattr(os, "sched_getaffinity"):  # absent on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_context(num_threads: int) -> Any:
    """Return a multiprocessing context whose new processes have already imported the heavy libraries.

    Args:
        num_threads: threads of the numerical libraries in each process.
    """
    # The numerical libraries read these variables when the server process imports them.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(num_threads))
    # Where processes cannot be forked, each imports the libraries itself.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # Not `fork`: a copy of this process would inherit locks held by its threads, and a CUDA context that it cannot use.
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["noisybench.execution.preload"])
    return forkserver
