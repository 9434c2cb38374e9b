"""Which tests execute which lines, so that a mutant is first tried with the tests that can notice it."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field

from tests.mutation.areas import ROOT


@dataclass
class Trace:
    """What tests executed.

    Attributes:
        seconds: duration of each test.
        lines: tests by file and line; only lines that ran while a test did, not those of the import.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def merge(self, other: Trace) -> None:
        """Add the tests of another trace."""
        self.seconds.update(other.seconds)
        for path, lines in other.lines.items():
            for line, tests in lines.items():
                self.lines.setdefault(path, {}).setdefault(line, []).extend(tests)

    def tests_of(self, path: str, source: str, line: int) -> list[str]:
        """Return the tests that execute the statement at a line, the quickest first.

        A statement of a module or class runs when it is imported, so all tests that execute any line of the file count, and
        those that execute no line of any: they may read definitions that an import executes.
        """
        lines = self.lines.get(path, {})
        tests = {test for each in statement_lines(source, line) for test in lines.get(each, ())}
        if not tests:
            tests = {test for each in lines.values() for test in each} | (
                self.seconds.keys()
                - {test for each in self.lines.values() for found in each.values() for test in found}
            )
        return sorted(tests, key=lambda test: (self.seconds[test], test))

    def dump(self) -> str:
        """Return the trace as JSON."""
        return json.dumps({"seconds": self.seconds, "lines": self.lines})

    @classmethod
    def load(cls, text: str) -> Trace:
        """Return the trace of a text from `dump`."""
        content = json.loads(text)
        lines = {path: {int(line): tests for line, tests in found.items()} for path, found in content["lines"].items()}
        return cls(content["seconds"], lines)


def statement_lines(source: str, line: int) -> range:
    """Return the lines of the innermost statement at a line, without the body of a compound statement.

    A statement at the top of a module or class has none: it runs when the module is imported.

    Example:
        >>> statement_lines("def f(x):\\n    return (\\n        x + 1\\n    )", 3)
        range(2, 5)
        >>> statement_lines("RATE = 2", 1)
        range(0, 0)
    """
    found: ast.stmt | None = None
    parents: list[ast.AST] = []
    nodes: list[tuple[ast.AST, list[ast.AST]]] = [(ast.parse(source), [])]
    while nodes:
        node, above = nodes.pop()
        first = min((each.lineno for each in getattr(node, "decorator_list", ())), default=getattr(node, "lineno", 0))
        if isinstance(node, ast.stmt) and first <= line <= (node.end_lineno or 0):
            found, parents = node, above
        nodes += [(child, [*above, node]) for child in ast.iter_child_nodes(node)]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    if found is None or not any(isinstance(parent, functions) for parent in parents):
        return range(0)
    body = getattr(found, "body", None)
    end = body[0].lineno - 1 if isinstance(body, list) and body else (found.end_lineno or found.lineno)
    return range(found.lineno, max(end, found.lineno) + 1)


def test_files(tests: tuple[str, ...]) -> list[str]:
    """Return the test files of files and folders."""
    return [
        file.relative_to(ROOT).as_posix()
        for test in tests
        for file in ([ROOT / test] if test.endswith(".py") else sorted((ROOT / test).rglob("test_*.py")))
    ]
