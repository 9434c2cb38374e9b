"""Execute a command in this process, without training, and classify how it ends."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from unittest import mock

import psutil

from noisybench.cli.app import main
from noisybench.errors import UserError
from tests.fuzz.commands import all_commands
from tests.fuzz.grammar import ArgumentGenerator
from tests.fuzz.isolation import GUARD, without_training
from tests.fuzz.template import Template

HANG = 60
"""Seconds after which a command counts as hanging."""

MEMORY = 4 * 2**30
"""Bytes that a command may allocate; protects the machine from inputs that claim to be huge."""

ALLOWED = (0, 1, 2, 130)
"""Exit statuses of a command."""

ENCODINGS = ("utf-8",) * 9 + ("ascii",)
STORES = (None,) * 22 + (
    "http://127.0.0.1:notaport",
    "http://127.0.0.1:9",
    "nonsense",
    "sqlite:////proc/x/y.db",
    "",
    "file:///proc/x",
)
"""Values of MLFLOW_TRACKING_URI; None for none."""


class Hang(BaseException):
    """The command did not end in time; no handler of the command catches it."""


@dataclass(frozen=True)
class Outcome:
    """End of a command.

    Attributes:
        status: exit status; None if an exception left the command.
        output: standard output and error.
        seconds: duration.
        hung: True if the command was stopped.
    """

    status: int | None
    output: str
    seconds: float = 0.0
    hung: bool = False

    @property
    def problem(self) -> str | None:
        """Reason why a command may not end like this; None if it may."""
        if self.hung:
            return f"hangs (stopped after {self.seconds:.0f} s)"
        if "internal error" in self.output:
            return "internal error"
        if "Traceback (most recent call last)" in self.output:
            return "traceback"
        if self.status not in ALLOWED:
            return f"exit status {self.status}"
        if self.status == 2 and not self.output.strip():
            return "no message"
        return None


@dataclass(frozen=True)
class Case:
    """Generated call of a command; equal words and seeds give equal cases.

    Attributes:
        words: words of the command.
        seed: seed of the arguments and files.
    """

    words: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Name for `python -m tests.fuzz.campaign --replay NAME`."""
        return f"{' '.join(self.words)}:{self.seed}"


@dataclass(frozen=True)
class Call:
    """Arguments and surroundings of a command.

    Attributes:
        arguments: words and arguments.
        environment: changed environment variables; None removes one.
        encoding: encoding of the output.
    """

    arguments: list[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    encoding: str = "utf-8"


def prepare(case: Case, template: Template, folder: Path) -> Call:
    """Write the files of a case into its folder, and return its call."""
    rng = random.Random(f"{case.name}")
    for name in ("mlflow.db", "mlartifacts"):
        template.copy(name, folder)
    with contextlib.chdir(folder):
        arguments = ArgumentGenerator(template, folder, rng).arguments(case.words, all_commands()[case.words])
    environment: dict[str, str | None] = {"MLFLOW_TRACKING_URI": rng.choice(STORES)}
    if rng.random() < 0.03:
        environment["HOME"] = None
    return Call(arguments, environment, rng.choice(ENCODINGS))


def execute(call: Call, folder: Path) -> Outcome:
    """Execute a command in a folder."""
    with contextlib.chdir(folder), _environment(call.environment), without_training():
        # Like a console of that encoding: characters that it lacks are errors unless the command prevents them.
        data = io.BytesIO()
        stream = io.TextIOWrapper(data, encoding=call.encoding, errors="strict", write_through=True)
        errors = io.TextIOWrapper(data, encoding=call.encoding, errors="backslashreplace", write_through=True)
        start, hung, status = time.monotonic(), False, None
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(errors), _limits(folder), GUARD.active():
            argv = ["noisybench", *call.arguments]
            try:
                with mock.patch.object(sys, "argv", argv), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except Hang:
                hung = True
            except Exception as error:
                if isinstance(error, UserError) and "--debug" in call.arguments:  # which asks for the traceback
                    status = 2
                    errors.write(f"error: {str(error)!a}")
                else:
                    errors.write(f"Traceback (most recent call last): {type(error).__name__}: {str(error)!a}")
        seconds = time.monotonic() - start
        output = data.getvalue().decode(call.encoding, "replace")
    return Outcome(status, output, seconds, hung or seconds > HANG)


@contextlib.contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    values = {name: value for name, value in changes.items() if value is not None}
    with mock.patch.dict(os.environ, kept | values, clear=True):
        yield


@contextlib.contextmanager
def _limits(folder: Path) -> Iterator[None]:
    """Limit time and memory of the block."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    finished = threading.Event()
    released = threading.Thread(target=_release_pipes, args=(folder, finished), daemon=True)
    previous = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, HANG)
    released.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        finished.set()


def _release_pipes(folder: Path, finished: threading.Event) -> None:
    """Release readers of named pipes in native code, which no signal handler interrupts, after the time limit."""
    if finished.wait(HANG + 1):
        return
    for path in folder.rglob("*"):
        if path.is_fifo():
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
