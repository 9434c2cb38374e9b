"""Processes."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any


def context(threads: int) -> Any:
    """A multiprocessing context whose new processes have the heavy imports done."""
    # Read by the numeric libraries when they are imported in the server.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["noisybench.execution.preload"])
    return chosen
