"""The pager of long output, with real programs in a pseudo-terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from noisybench.cli.pager import pager_command, print_paged

LONG = "\n".join(f"line {number}" for number in range(100))


def console(height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=height, highlight=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a pager that writes what it receives, and the options of `less`, to a file."""
    file = tmp_path / "shown.txt"
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['LESS'] + chr(10) + sys.stdin.read())"
    monkeypatch.setenv("PAGER", f'"{sys.executable}" -c "{program}" "{file}"')
    monkeypatch.delenv("LESS", raising=False)
    return file


@pytest.mark.fast
def test_output_that_is_longer_than_the_terminal_goes_to_the_pager(shown: Path) -> None:
    output = console()
    print_paged(output, LONG)
    assert text_of(output) == ""
    assert shown.read_text() == f"FRSX\n{LONG}\n"


@pytest.mark.fast
@pytest.mark.parametrize("height", [101, 500])
def test_output_that_fits_is_printed(shown: Path, height: int) -> None:
    output = console(height)
    print_paged(output, LONG)
    assert text_of(output) == f"{LONG}\n"
    assert not shown.exists()


@pytest.mark.fast
def test_no_pager_for_files_nor_on_request(shown: Path) -> None:
    file = Console(file=io.StringIO(), width=80, height=24, highlight=False)
    print_paged(file, LONG)
    output = console()
    print_paged(output, LONG, enabled=False)
    assert text_of(file) == text_of(output) == f"{LONG}\n"
    assert not shown.exists()


@pytest.mark.fast
@pytest.mark.parametrize("pager", ["", "cat", "no-such-program", "'unclosed", f"{sys.executable} -c pass"])
def test_no_usable_pager_loses_nothing(monkeypatch: pytest.MonkeyPatch, pager: str) -> None:
    monkeypatch.setenv("PAGER", pager)
    output = console()
    print_paged(output, LONG)
    # A pager that ends without reading is one that its user has left at once.
    assert text_of(output) == ("" if pager.endswith("pass") else f"{LONG}\n")
    assert bool(pager_command()) == pager.endswith("pass")


@pytest.mark.fast
@pytest.mark.parametrize(("status", "is_printed"), [(0, False), (1, True), (2, False), (127, True)])
def test_what_a_failed_pager_did_not_show_is_printed(
    monkeypatch: pytest.MonkeyPatch, status: int, is_printed: bool
) -> None:
    monkeypatch.setenv("PAGER", f"'{sys.executable}' -c 'raise SystemExit({status})'")
    output = console()
    print_paged(output, LONG)
    assert text_of(output) == (f"{LONG}\n" if is_printed else "")
