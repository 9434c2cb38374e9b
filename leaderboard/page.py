"""The leaderboard as one self-contained HTML page: no network, no other file."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json

from noisybench.leaderboard.board import Board


def to_html(board: Board) -> str:
    """The page of a board. It runs no script but its own, whatever the names and texts of runs contain."""
    told = {
        "cells": board.cells,
        "overall": board.overall,
        "draws": board.draws,
        "left_out": board.left_out,
        "ledger": board.ledger,
        "runs": board.runs,
    }
    details = "\n".join(
        f'<script type="application/json" id="cell-{key}">{_inside_script(detail)}</script>'
        for key, detail in board.details.items()
    )
    head, middle, end = _template()
    return "".join([head, _inside_script(json.dumps(told, allow_nan=False)), middle, details, end])


@functools.cache
def waiting_page() -> str:
    """What is shown until there is a board. It asks again every two seconds, for the very address with what was chosen there."""
    return _with_policy("waiting.html", "setTimeout(() => location.reload(), 2000);")


def _inside_script(text: str) -> str:
    """JSON for a script element, which only "</" and "<!--" could end or confuse; JSON may write them escaped."""
    return text.replace("<", "\\u003c")


@functools.cache
def _template() -> tuple[str, str, str]:
    """The page before the board, between it and the cells, and after them."""
    page = _with_policy("page.html", _file("page.js"))
    head, _, rest = page.partition("__BOARD__")
    middle, _, end = rest.partition("__DETAILS__")
    return head, middle, end


def _with_policy(name: str, script: str) -> str:
    """A page of ours with its style and script.

    Nothing is loaded from anywhere, and only what stands here may run: text of a run that became a script would not.
    """
    page, style = _file(name), _file("page.css")
    allowed = f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    return page.replace("__STYLE__", style).replace("__SCRIPT__", script).replace("__POLICY__", policy)


def _file(name: str) -> str:
    return (importlib.resources.files("noisybench.leaderboard") / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
