"""Names of others cannot control the terminal."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from noisybench.utils.console import make_console

HOSTILE = "cat\x1b[2J\x1b]0;title\x07\u202etac"


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_are_shown_as_escapes(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    console = make_console()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    console.print(Text(HOSTILE, style="red"))
    console.print(f"name: {HOSTILE}", markup=False)
    output = capsys.readouterr().out
    # A terminal gets the colors of Rich, and no other sequence.
    assert "\x1b[2J" not in output
    assert "\x07" not in output
    assert "\u202e" not in output
    assert output.count("\\x1b[2J") == 4
    assert ("\x1b" in output) == terminal


@pytest.mark.fast
@pytest.mark.parametrize(
    ("columns", "width"), [(None, 170), ("80", 80), ("", 170), ("wide", 170), ("-5", 170), ("0", 170)]
)
def test_files_have_the_width_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str | None, width: int
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert make_console().width == width
