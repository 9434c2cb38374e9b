"""The reference of the command line, generated from its application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from noisybench.cli.app import app

from .pages import Page
from .text import code, command, prose, table


def pages() -> Iterator[Page]:
    """Yield the page of all commands."""
    root: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        "For everyone who types `noisybench`: all commands, as printed by `--help`. Errors of the user end with exit status 2 "
        "and a message that names what is allowed; finished runs end with 0, failed ones with 1.",
        command("noisybench --help"),
        _options(root),
    ]
    for name, child in root.commands.items():
        parts += _command_parts(f"noisybench {name}", child, 2)
    yield Page("reference/commands.md", "Command line", "\n\n".join(part for part in parts if part) + "\n")


def _command_parts(path: str, node: Any, level: int) -> list[str]:
    parts = [f"{'#' * level} {path}", prose(_plain(node.help or ""))]
    arguments = [parameter for parameter in node.params if parameter.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *(_argument_usage(parameter) for parameter in arguments)])
    if getattr(node, "commands", None):
        usage += " COMMAND [ARGS]..."
    parts.append(f"```text\n{usage}\n```")
    if arguments:
        rows = [(code(_argument_usage(each)), prose(getattr(each, "help", "") or "")) for each in arguments]
        parts.append(table(["Argument", "Meaning"], rows))
    parts.append(_options(node))
    if node.epilog:
        parts.append(command(node.epilog.removeprefix("Example: ")))
    for name, child in getattr(node, "commands", {}).items():
        parts += _command_parts(f"{path} {name}", child, level + 1)
    return parts


def _plain(text: str) -> str:
    """Return a help text without the marks of click, such as those against wrapping."""
    return text.replace("\b\n", "").strip()


def _argument_usage(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _options(node: Any) -> str:
    rows = []
    for parameter in node.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        names = ", ".join(map(code, (*parameter.opts, *parameter.secondary_opts)))
        default = (
            "" if callable(parameter.default) or parameter.default in (None, False, ()) else code(parameter.default)
        )
        rows.append((names, default, prose(parameter.help or "")))
    return table(["Option", "Default", "Meaning"], rows)
