"""The leaderboard as one self-contained HTML page, which needs no network and no other file."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from noisybench.leaderboard.board import Board
from noisybench.leaderboard.columns import TABLE, Column
from noisybench.leaderboard.display_names import distinct_names, short_title, stack_names
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.stress import RATE_PARAMETERS
from noisybench.leaderboard.text_tables import LATEX_SPECIAL, csv_names
from noisybench.plots.method_styles import method_styles
from noisybench.tracking.connection import PREFIX
from noisybench.tracking.presentation import HEADLINE
from noisybench.utils.pages.rendering import json_in_script, render_page

PACKAGE = "noisybench.leaderboard"
SCRIPTS = (
    "base.js", "marks.js", "facets.js", "charts.js", "plots.js", "matrix.js", "answer.js", "setting.js", "across.js",
    "stress.js", "cards.js", "entries.js", "published.js", "excluded.js", "guide.js", "export.js", "views.js",
)  # fmt: skip
"""Scripts of the page in the order in which they are joined; views stand in the navigation in this order."""
STYLES = ("page.css", "charts.css", "cards.css")


def to_html(board: Board) -> str:
    """Return the page of a board.

    The page runs no script but its own, whatever the names and texts of runs contain.

    Example:
        >>> from noisybench.leaderboard.board import build_board
        >>> page = to_html(build_board([]))
        >>> page.startswith("<!doctype html>")
        True
    """
    data = {
        "settings": board.settings,
        "excluded": [each | {"what": short_title(each["what"].split(" · "))} for each in board.excluded],
        "runs_url": board.runs_url,
        "tracked": {"prefix": PREFIX, "score": HEADLINE},
        "names": _short_names(board.settings),
        "styles": _styles(board.settings),
        "latex": LATEX_SPECIAL,
        "columns": [_column(column) for column in TABLE],
    }
    # Each section and setting has an element of its own, so that the browser parses only the ones that are opened.
    sections = {f"section-{name}": _json(section) for name, section in board.sections.items()}
    details = {f"setting-{key}": json_in_script(detail) for key, detail in board.details.items()}
    return render_page(
        PACKAGE,
        "page.html",
        styles=STYLES,
        scripts=SCRIPTS,
        images=True,  # the icon of the page, and figures that are saved as PNG
        version=importlib.metadata.version("noisybench"),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        counts=_counts(board.settings),
        license=importlib.metadata.metadata("noisybench")["License-Expression"],
        links=project_links(importlib.metadata.metadata("noisybench")),
        board=_json(data),
        details=sections | details,
    )


def _column(column: Column) -> dict[str, Any]:
    """Return what the page knows of a column; the texts of its cells are in the data of each setting."""
    return {
        "title": column.title,
        "name": column.name,
        "description": column.description,
        "better": column.better,
        "text": column.is_text,
        "csv": csv_names(column),
    }


def _styles(settings: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """Return color, marker and dash of each stack, as attributes of SVG."""
    styles = method_styles(stack for summary in settings for stack in summary["codes"])
    return {stack: (style.color, style.marker, " ".join(map(str, style.dash))) for stack, style in styles.items()}


def _counts(settings: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers of runs, settings and methods of a board in words."""
    stacks = {stack for summary in settings for stack in summary["codes"]}
    numbers = {"run": sum(summary["runs"] for summary in settings), "setting": len(settings), "method": len(stacks)}
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in numbers.items())


def project_links(metadata: importlib.metadata.PackageMetadata) -> list[tuple[str, str]]:
    """Return name and address of each link that a package declares: its home page, documentation, source code and others.

    Args:
        metadata: metadata of a distribution. Only links of https are shown; without any, the page has none.

    Example:
        >>> project_links(importlib.metadata.metadata("numpy"))[0]
        ('homepage', 'https://numpy.org')
    """
    declared = [f"Home page, {address}" for address in metadata.get_all("Home-page") or []]
    declared += metadata.get_all("Project-URL") or []
    links = [(name.strip(), address.strip()) for name, _, address in (each.partition(",") for each in declared)]
    return [(name, address) for name, address in links if address.startswith("https://")]


def _short_names(settings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the short names of everything that a view may name, without those that are the whole name."""
    stacks = {stack for summary in settings for stack in summary["codes"]}
    components = {summary[kind] for summary in settings for kind in ("dataset", "noise", "task", "network")}
    components |= {without_parameters(summary["noise"], RATE_PARAMETERS) for summary in settings}
    names = distinct_names(sorted(components)) | stack_names(sorted(stacks))
    return {whole: short for whole, short in names.items() if short != whole}


def _json(data: Any) -> Markup:
    return json_in_script(json.dumps(data, allow_nan=False, separators=(",", ":")))


@functools.cache
def waiting_page() -> str:
    """Return the page that is shown until the first board is ready; it reloads the same address every two seconds."""
    return render_page(PACKAGE, "waiting.html", scripts=("reload.js",))
