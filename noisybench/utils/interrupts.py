"""Interruption of a command by Ctrl-C (SIGINT), SIGTERM, SIGHUP or SIGUSR1, and by the end of its time.

A signal raises no exception here. An exception could appear in any line: as the traceback of an import, swallowed by a
library, or in the middle of a `finally`. Every file survives `kill -9`, so that a command can simply end where it is. While
runs are trained, the first signal is only counted, and the command lets them finish their epochs.

Signals are received by a thread, so that a command also ends while its main thread waits for a database or a network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that interrupt a command. Schedulers send SIGUSR1 to announce that the time of a job is nearly over."""

OUT_OF_TIME_STATUS = 75
"""Exit status of a command that trains runs and has stopped because its time is over: EX_TEMPFAIL of sysexits.h."""

REPEAT_SECONDS = 0.1
"""Signals that follow within this time count once: `timeout` and some wrappers send each signal twice."""

STOP_SECONDS = 3.0
"""Time that a command has to end in order after the second signal."""

SHOW_CURSOR = b"\r\x1b[J\x1b[?25h"
"""Escape sequence that removes a progress bar below the cursor and shows the cursor again."""


class Interrupts:
    """Signals that this process has received."""

    def __init__(self) -> None:
        self._count, self._number, self._is_resumable = 0, int(signal.SIGINT), False
        self._started_at: float | None = None
        self._notify: Callable[[str], object] | None = None
        self._is_polled = False
        self._message = ""
        self._handled: list[signal.Signals] = []
        self._terminals: list[int] = []

    def install(self, message: str, is_resumable: bool = False) -> None:
        """Receive signals from now on, the start of the command; called once by the command line.

        Args:
            message: line that is printed when a signal ends the process.
            is_resumable: True if the command trains or computes for long, and resumes when it is run again.
        """
        self._message, self._is_resumable, self._started_at = message, is_resumable, time.monotonic()
        # `nohup`, and a shell that starts a command in the background, ignore signals on purpose.
        self._handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.handle_signals()
        os.register_at_fork(after_in_child=self._restore)
        threading.Thread(target=self._watch, args=(reader,), name="interrupts", daemon=True).start()

    def handle_signals(self) -> None:
        """Install the handlers again after a library has replaced them."""
        for number in self._handled:
            signal.signal(number, _do_nothing)  # the thread is informed by the wake-up file descriptor

    @contextlib.contextmanager
    def graceful(self, notify: Callable[[str], object]) -> Iterator[None]:
        """Let the caller stop in order after the first signal, once it has called `level` in the block.

        Args:
            notify: prints a line after the first signal.
        """
        self._notify, self._is_polled = notify, False
        try:
            yield
        finally:
            self._notify = None

    def level(self) -> int:
        """Return 0 to continue, 1 to stop after the current epochs, 2 or more to stop immediately."""
        # Until a caller polls it, for instance while runs are validated, nothing is trained and a signal ends the process.
        self._is_polled = True
        return self._count

    def start_time(self) -> float:
        """Return the monotonic time at which the command has started; now, if another program calls its functions.

        Not the start of the process: a shell that a script replaces with `exec` has run for longer than the command.
        """
        return time.monotonic() if self._started_at is None else self._started_at

    @property
    def signal_name(self) -> str:
        """Name of the first signal, such as ``SIGUSR1``."""
        return signal.Signals(self._number).name

    @property
    def exit_status(self) -> int:
        """Exit status after a signal: 128 plus its number, as shells report it.

        After SIGUSR1, it is `OUT_OF_TIME_STATUS` for commands that resume.
        """
        if self._number == signal.SIGUSR1 and self._is_resumable:
            return OUT_OF_TIME_STATUS
        return 128 + self._number

    @contextlib.contextmanager
    def ending_at(self, moment: float, message: Callable[[], str], status: Callable[[], int]) -> Iterator[None]:
        """End the process, with everything that it has started, if the block lasts longer.

        Args:
            moment: monotonic time.
            message: returns the line to print.
            status: returns the exit status.
        """
        is_over = threading.Event()

        def wait() -> None:
            if not is_over.wait(max(0.0, moment - time.monotonic())):
                # The user who has pressed Ctrl-C waits for the end of an interrupted command, not of one out of time.
                self.exit(message(), self.exit_status if self._count else status())

        threading.Thread(target=wait, name="time limit", daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    def _watch(self, reader: int) -> None:
        latest = -REPEAT_SECONDS
        while True:
            number = os.read(reader, 1)[0]
            repeats = time.monotonic() - latest < REPEAT_SECONDS
            # The kernel and the shell may both report a closed terminal, seconds apart; a second announcement of the end
            # is no wish for an earlier one.
            if number not in SIGNALS or repeats or (number in (signal.SIGHUP, signal.SIGUSR1) and self._count):
                continue
            latest = time.monotonic()
            if number == signal.SIGHUP:
                _detach_output(self._terminals)
            if not self._count:
                self._number = number
            self._count += 1
            if self._notify is None or not self._is_polled:
                self.exit()
            elif self._count == 1:
                hint = "; press Ctrl-C again to stop immediately" if number == signal.SIGINT else ""
                self._notify(f"Stopping after the current epochs{hint}.")
            else:
                time.sleep(STOP_SECONDS)
                self.exit()

    def exit(self, message: str | None = None, status: int | None = None) -> None:
        """End this process and all that it has started, with one line.

        Args:
            message: the line (default: that of a signal).
            status: exit status (default: that of the first signal).
        """
        # Bounded, because the main thread may hold the lock of the stream in a write to a full pipe.
        flush = threading.Thread(target=_flush, daemon=True)
        flush.start()
        flush.join(0.5)
        with contextlib.suppress(OSError):
            if 1 in self._terminals:
                os.write(1, SHOW_CURSOR)
            os.write(2, f"{self._message if message is None else message}\n".encode())
        # Errors that follow from the end of the processes below are no news.
        _detach_output((1, 2))
        kill_children()
        os._exit(self.exit_status if status is None else status)

    def _restore(self) -> None:
        """Give a forked process, such as a loader of images, the signals of a new process; its parent decides on a stop."""
        signal.set_wakeup_fd(-1)
        for number in self._handled:
            is_decided_by_parent = number in (signal.SIGINT, signal.SIGUSR1)
            signal.signal(number, signal.SIG_IGN if is_decided_by_parent else signal.SIG_DFL)


INTERRUPTS = Interrupts()
"""Signals of this process."""


def kill_children(pid: int | None = None) -> None:
    """Kill all processes that a process has started, and those that they have started.

    Args:
        pid: id of the process (default: this process).
    """
    if pid is None:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # the usual case, in which psutil need not be imported
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()


def _detach_output(descriptors: Sequence[int]) -> None:
    """Send further output of these file descriptors nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(null, descriptor)


@contextlib.contextmanager
def keyboard_interrupts(notify: Callable[[str], object]) -> Iterator[Callable[[], int]]:
    """Let a block that another program calls stop in order after Ctrl-C, and then raise `KeyboardInterrupt`.

    Ctrl-C raises it at once until the block calls the yielded function, as `Interrupts.level`, and where the program has
    its own handler or calls from another thread than the main one.

    Args:
        notify: prints a line after the first Ctrl-C.

    Yields:
        Function that returns 0 to continue, 1 to stop after the current epochs, 2 or more to stop immediately.

    Example:
        >>> with keyboard_interrupts(print) as level:
        ...     level()
        0
    """
    count, has_notified, is_polled = 0, False, False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if not is_polled:
            raise KeyboardInterrupt

    def level() -> int:
        nonlocal is_polled, has_notified
        is_polled = True
        # Not in the handler, which may interrupt another line that is being printed.
        if count == 1 and not has_notified:
            has_notified = True
            notify("Stopping after the current epochs; press Ctrl-C again to stop immediately.")
        return count

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: 0
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield level
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if count:
        raise KeyboardInterrupt
