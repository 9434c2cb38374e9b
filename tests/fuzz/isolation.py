"""Execute commands without training, servers, and writes outside of temporary folders."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from noisybench.audit import audit as audit_module
from noisybench.audit import signals
from noisybench.audit.inputs import AuditInput
from noisybench.audit.traces import decoders
from noisybench.audit.traces import report as trace_report
from noisybench.audit.traces.inputs import TraceAuditInput
from noisybench.execution import local, ray
from noisybench.runs import distributed
from noisybench.utils import processes


class WriteGuard:
    """Refusal of every write outside of temporary folders, as for a user without rights; tests may be executed as root."""

    EVENTS = (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.chmod",
        "os.truncate",
        "sqlite3.connect",
    )

    def __init__(self) -> None:
        self._is_active = self._is_installed = False
        self._allowed: tuple[str, ...] = ()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Refuse writes while the block executes."""
        if not self._is_installed:
            sys.addaudithook(self._check)  # cannot be removed again
            self._is_installed = True
        roots = (tempfile.gettempdir(), os.environ.get("NOISYBENCH_CACHE", tempfile.gettempdir()))
        self._allowed = tuple(os.path.realpath(root) for root in roots)
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False

    def _check(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_active or not (event in self.EVENTS or event == "open"):
            return
        if event == "open" and not (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            return
        for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
            if isinstance(path, (str, bytes, os.PathLike)):
                name = os.path.realpath(os.fsdecode(path).removeprefix("file:").partition("?")[0])
                # Some names, such as those in /proc, are refused by the system itself.
                if name != os.devnull and not name.startswith((*self._allowed, "/proc/")):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))


GUARD = WriteGuard()


class _NoServer(subprocess.Popen[Any]):
    """Process that is not started if it is a server."""

    def __init__(self, command: Any, *arguments: Any, **options: Any) -> None:
        if "server" in command:
            raise SystemExit(0)
        super().__init__(command, *arguments, **options)


class _SameProcess:
    """Multiprocessing context whose processes execute in this one when they are started."""

    def Pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        messages: list[Any] = []
        receiver, sender = mock.Mock(), mock.Mock()
        sender.send.side_effect = messages.append
        receiver.poll.side_effect = lambda *_: bool(messages)

        def receive() -> Any:
            if not messages:
                raise EOFError
            return messages.pop(0)

        receiver.recv.side_effect = receive
        return receiver, sender

    def Process(self, target: Callable[..., Any], args: tuple[Any, ...] = (), **options: Any) -> Any:
        process = mock.Mock(exitcode=0, pid=os.getpid())
        process.start.side_effect = lambda: target(*args)
        process.is_alive.return_value = False
        return process


@contextlib.contextmanager
def without_training() -> Iterator[None]:
    """Validate runs in this process, and replace training and servers by nothing; an audit trains for one epoch."""

    def serve(*arguments: Any) -> None:
        raise SystemExit(0)

    def collect_fast(audit_input: AuditInput, *arguments: Any) -> Any:
        spec = audit_input.spec
        budget = spec.budget.model_copy(update={"epochs": 1, "network": "mlp:4"})
        return collect(dataclasses.replace(audit_input, spec=dataclasses.replace(spec, budget=budget)), *arguments)

    def train_fast(data: TraceAuditInput, *arguments: Any) -> Any:
        budget = data.spec.budget.model_copy(update={"epochs": 1, "network": "decoder:4x1"})
        return train(dataclasses.replace(data, spec=dataclasses.replace(data.spec, budget=budget)), *arguments)

    collect, train = signals.collect_signals, decoders.train_fold_decoders
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.ExitStack() as stack:
        # All of them are imported here, before the first is replaced: a later import would keep the replacement.
        for module in (local, distributed, ray, processes):
            stack.enter_context(mock.patch.object(module, "process_context", return_value=_SameProcess()))
        stack.enter_context(mock.patch("noisybench.execution.suite_runner.run_all", return_value=()))
        stack.enter_context(mock.patch("noisybench.search.trials.TrialRunner.run"))
        stack.enter_context(mock.patch.object(audit_module, "collect_signals", collect_fast))
        stack.enter_context(mock.patch.object(trace_report, "train_fold_decoders", train_fast))
        stack.enter_context(mock.patch("os.execve", serve))
        stack.enter_context(mock.patch("subprocess.Popen", _NoServer))
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def make_full(path: Path) -> None:
    """Make a device like `/dev/full`, which other processes do not use; a link to it without the permission."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        path.symlink_to("/dev/full")
