"""Record which lines each test executes. A module of its own: pytest must not be imported before mutants are forked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

from tests.mutation.tracing import Trace


class Tracer:
    """Plug-in of pytest that records the lines that each test executes."""

    def __init__(self, modules: list[str]) -> None:
        self.trace = Trace()
        self._coverage = Coverage(
            data_file=None, include=[str(Path.cwd() / path) for path in modules], config_file=False
        )
        self._folder = Path.cwd()

    def pytest_sessionstart(self) -> None:
        """Start to record."""
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[Any]:
        """Attribute what runs to the test, with the setup of its fixtures."""
        self._coverage.switch_context(item.nodeid)
        result = yield
        self._coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add the duration of a part of a test."""
        self.trace.seconds[report.nodeid] = self.trace.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Collect what was recorded."""
        self._coverage.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no line was executed
            data = self._coverage.get_data()
        for file in data.measured_files():
            contexts = {line: [name for name in names if name] for line, names in data.contexts_by_lineno(file).items()}
            lines = {line: names for line, names in contexts.items() if names}
            self.trace.lines[Path(file).relative_to(self._folder).as_posix()] = lines
