"""Child processes and CPU cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from noisybench.utils.interrupts import SIGNALS


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


def cpu_name() -> str:
    """Return the name under which records list the CPU of this machine as a device.

    Example:
        >>> cpu_name().endswith(" CPU")
        True
    """
    return f"{platform.machine()} CPU"


def process_context() -> Any:
    """Return a multiprocessing context whose new processes have already imported the heavy libraries.

    Their numerical libraries have one thread each: labels must not depend on the number of threads with which a run
    trains, which sets it later. Threads that wait for others soon sleep.
    """
    # The numerical libraries read these variables when the server process imports them.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Threads that wait for each other spin for some microseconds, then sleep. Spinning for long, as by default, keeps a core
    # from the thread that they wait for wherever other programs run; sleeping at once makes small networks three times slower.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Where processes cannot be forked, each imports the libraries itself.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # Not `fork`: a copy of this process would inherit locks held by its threads, and a CUDA context that it cannot use.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["noisybench.execution.preload"])
    return context


def start_server() -> None:
    """Start the server process of `process_context` now: it imports the heavy libraries while this process does other work.

    It ends with this process, at the latest when it has imported them.
    """
    process_context()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    resource_tracker.ensure_running()
    with _signals_blocked(), _without_main_module():
        forkserver.ensure_running()


def start_process(context: Any, target: Callable[..., None], arguments: Sequence[Any], daemon: bool = True) -> Any:
    """Start a process that signals to the process group do not reach: its parent alone decides how it ends.

    Args:
        context: multiprocessing context, from `process_context`.
        target: function that the process calls.
        arguments: its picklable arguments.
        daemon: False if the process starts processes itself.

    Returns:
        The started process. It must be killed rather than terminated.
    """
    process = context.Process(target=target, args=tuple(arguments), daemon=daemon)
    # Started first, because it unblocks signals of its parent process when it has started.
    resource_tracker.ensure_running()
    with _signals_blocked(), _without_main_module():
        process.start()
    return process


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in this thread; processes that it starts inherit that from their first instruction."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


_main_module_lock = threading.Lock()


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide where the main module comes from in the block.

    New processes would import it, and so execute a user's script again that has no ``if __name__ == "__main__"``. They
    call functions of this package only, which need nothing of it.
    """
    main = sys.modules["__main__"]
    with _main_module_lock:
        file, spec = getattr(main, "__file__", None), main.__spec__
        main.__file__ = main.__spec__ = None
        try:
            yield
        finally:
            main.__file__, main.__spec__ = file, spec
            if file is None:
                del main.__file__


def exit_with_parent() -> None:
    """End this process, from a background thread, as soon as its parent process ends."""

    def wait() -> None:
        if parent_has_ended(timeout=None):
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def parent_has_ended(timeout: float | None) -> bool:
    """Wait for the end of the process that started this one.

    Args:
        timeout: seconds to wait at most; None waits until the end.

    Returns:
        True if the parent process has ended.

    Example:
        >>> parent_has_ended(0)  # the main process has no parent process
        False
    """
    parent = multiprocessing.parent_process()
    return parent is not None and bool(connection.wait([parent.sentinel], timeout))
