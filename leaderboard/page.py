"""The leaderboard as one self-contained HTML page, which needs no network and no other file."""

from __future__ import annotations

import functools
import json

from noisybench.leaderboard.board import Board
from noisybench.utils.pages.rendering import json_in_script, render_page

PACKAGE = "noisybench.leaderboard"
SCRIPTS = ("base.js", "charts.js", "setting.js", "stress.js", "views.js")
"""Scripts of the page in the order in which they are joined."""
STYLES = ("page.css",)


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
    details = [(key, json_in_script(detail)) for key, detail in board.details.items()]
    return render_page(
        PACKAGE,
        "page.html",
        styles=STYLES,
        scripts=SCRIPTS,
        board=json_in_script(json.dumps(data, allow_nan=False)),
        details=details,
    )


@functools.cache
def waiting_page() -> str:
    """Return the page that is shown until the first board is ready; it reloads the same address every two seconds."""
    return render_page(PACKAGE, "waiting.html", scripts=("reload.js",))
