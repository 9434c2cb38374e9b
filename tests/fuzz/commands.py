"""The commands of the application, found by walking it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from noisybench.cli.app import app

Path = tuple[str, ...]
"""Words that call a command, such as ``("labels", "create")``."""


def all_commands() -> dict[Path, Any]:
    """Return every command that does something by its words, with its Click object.

    Example:
        >>> all_commands()["labels", "create"].name
        'create'
    """
    return dict(_walk((), typer.main.get_command(app)))


def _walk(words: Path, command: Any) -> Iterator[tuple[Path, Any]]:
    children = getattr(command, "commands", None)
    # A group such as `leaderboard` is a command of its own if it may be called without a subcommand.
    if words and (children is None or command.invoke_without_command):
        yield words, command
    for name, child in (children or {}).items():
        yield from _walk((*words, name), child)


def settable_parameters(command: Any) -> list[Any]:
    """Return the options and arguments of a command, without those that print help or a version."""
    return [parameter for parameter in command.params if not getattr(parameter, "is_eager", False)]
