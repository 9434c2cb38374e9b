"""Interruption of a command by signals and by the end of its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

COMMAND = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from noisybench.utils.interrupts import INTERRUPTS
INTERRUPTS.install("interrupted", is_resumable=True)
with INTERRUPTS.graceful(lambda line: None):
    INTERRUPTS.level()  # from here on, a signal lets the block continue
    if len(sys.argv) > 1:
        os.kill(os.getpid(), int(sys.argv[1]))
        while not INTERRUPTS.level():
            time.sleep(0.01)
    with INTERRUPTS.ending_at(time.monotonic() + 0.4, lambda: "out of time", lambda: 75):
        time.sleep(20)
"""


@pytest.mark.parametrize(
    ("number", "expected"), [(None, 75), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 75)]
)
def test_the_end_of_the_time_keeps_the_status_of_an_earlier_signal(number: int | None, expected: int) -> None:
    command = [sys.executable, "-c", COMMAND, *([] if number is None else [str(int(number))])]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr.strip()) == (expected, "out of time")
