"""The first line of a command on a terminal, and its removal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

LAZY = ("typer", "rich", "numpy", "torch", "mlflow", "pydantic")


def on_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; return its status and what it has written."""
    main, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm", **environment}
    )  # fmt: skip
    os.close(child)
    output = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal as an error
            break
        if not part:
            break
        output += part
    os.close(main)
    return process.wait(), output.decode()


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows in the end: an erased line shows what was written after it alone."""
    return [line.rpartition("\x1b[2K")[2].rpartition("\r")[2] for line in output.replace("\r\n", "\n").split("\n")]


def test_the_first_line_comes_before_every_large_import() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['noisybench', 'describe', 'elr']\n"
        "import noisybench.__main__ as entry, noisybench.utils.status as status\n"
        "original = status.show_status\n"
        "def show(text):\n"
        "    original(text)\n"
        f"    print([name for name in {LAZY} if name in sys.modules])\n"
        "    raise SystemExit\n"
        "status.show_status = show\n"
        "entry.main()\n"
    )
    _, output = on_terminal("-c", program)
    assert "\x1b[2Knoisybench describe: starting ...\r" in output
    assert "[]" in output, output


@pytest.mark.parametrize(
    "arguments", [("list", "suites"), ("describe", "nothing"), ("--version",), ("doctor", "--help")]
)
def test_the_line_is_removed_by_the_first_output(arguments: tuple[str, ...]) -> None:
    _, output = on_terminal("-m", "noisybench", *arguments)
    assert output.startswith("\x1b[2Knoisybench")
    assert not any("starting" in line for line in screen(output))
    assert screen(output)[0]


def test_files_and_simple_terminals_get_no_such_line() -> None:
    _, output = on_terminal("-m", "noisybench", "--version", TERM="dumb")
    assert output.startswith("noisybench ")
    done = subprocess.run([sys.executable, "-m", "noisybench", "describe", "nothing"], capture_output=True, text=True)
    assert done.stderr.startswith("error: unknown name `nothing`")
    assert "\x1b" not in done.stderr


def test_colors_are_left_out_on_request() -> None:
    _, colored = on_terminal("-m", "noisybench", "describe", "nothing", NO_COLOR="")
    _, plain = on_terminal("-m", "noisybench", "describe", "nothing", NO_COLOR="1")
    assert "\x1b[31m\x1b[1merror:\x1b[0m unknown name" in colored
    assert "error: unknown name" in plain
    assert "\x1b[3" not in plain
