"""Standard output on full disks and consoles that lack characters, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisybench.cli.output import print_text

POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}


def run(*arguments: str, output: str | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with its output in a file, or captured."""
    command = [sys.executable, "-m", "noisybench", *arguments]
    variables = {**os.environ, **environment}
    if output is None:
        return subprocess.run(command, capture_output=True, env=variables, timeout=60)
    with Path(output).open("wb") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.PIPE, env=variables, timeout=60)


@pytest.mark.parametrize("arguments", [("list",), ("--help",), ("describe", "elr")])
def test_a_full_disk_behind_standard_output_is_one_line(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, output="/dev/full")
    assert done.returncode == 2
    assert done.stderr.decode() == "error: the output cannot be written: No space left on device\n"


def test_a_console_without_utf_8_shows_replacements() -> None:
    done = run("describe", "transition_matrix", **POSIX)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    done = run("describe", "é±", **POSIX)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: unknown name")


@pytest.mark.fast
def test_tables_of_other_formats_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("| stack |\n| \x1b]0;title\x07\u202e |\n")
    assert capsys.readouterr().out == "| stack |\n| \\x1b]0;title\\x07\\u202e |\n"
