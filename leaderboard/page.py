"""The leaderboard as one self-contained HTML page, which needs no network and no other file."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json

from markupsafe import Markup

from noisybench.leaderboard.board import Board
from noisybench.utils.templates import render

PACKAGE = "noisybench.leaderboard"
SCRIPTS = ("base.js", "charts.js", "setting.js", "views.js")
"""Scripts of the page in the order in which they are joined."""
RELOAD_SCRIPT = "setTimeout(() => location.reload(), 2000);"


def to_html(board: Board) -> str:
    """Return the page of a board.

    The page runs no script but its own, whatever the names and texts of runs contain.

    Example:
        >>> from noisybench.leaderboard.board import build_board
        >>> page = to_html(build_board([]))
        >>> page.startswith("<!doctype html>")
        True
    """
    data = {name: value for name, value in vars(board).items() if name != "details"}
    # Each setting has an element of its own, so that the browser parses only the ones that are opened.
    details = [(key, _json_in_script(detail)) for key, detail in board.details.items()]
    return _render("page.html", _script(), board=_json_in_script(json.dumps(data, allow_nan=False)), details=details)


@functools.cache
def waiting_page() -> str:
    """Return the page that is shown until the first board is ready; it reloads the same address every two seconds."""
    return _render("waiting.html", RELOAD_SCRIPT)


def _json_in_script(text: str) -> Markup:
    """Mark JSON as safe inside a script element, which only "</" and "<!--" could end; JSON may write "<" escaped."""
    return Markup(text.replace("<", "\\u003c"))


def _render(template: str, script: str, **context: object) -> str:
    """Render a page whose content security policy loads nothing, and runs no script but the given one."""
    style = _static_file("page.css")
    # Hashes in place of 'unsafe-inline': a script that got into the page through a name would still not run.
    policy = "; ".join((
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ))  # fmt: skip
    # Style and script are our own files, and their hashes are those of the unescaped text.
    return render(PACKAGE, template, policy=Markup(policy), style=Markup(style), script=Markup(script), **context)


@functools.cache
def _script() -> str:
    return "".join(_static_file(name) for name in SCRIPTS)


def _static_file(name: str) -> str:
    return (importlib.resources.files(PACKAGE) / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
