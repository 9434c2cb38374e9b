"""Leaderboard tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from noisybench.utils.text import count_runs

if TYPE_CHECKING:
    from noisybench.leaderboard.reproduction import Reproduction
    from noisybench.leaderboard.table import Setting

MAX_EXCLUDED = 5
"""Number of excluded runs that are listed."""

MAX_TEXT_WIDTH = 24
"""Most characters of a column that wraps, when columns are chosen by width."""

LEAST_IMPORTANT = (
    "verified", "worst class", "by chance", "oracle gap", "balanced acc.", "ECE", "label_wave", "time (s)", "last10",
    "shift acc.", "OOD AUROC", "memorized", "published", "oracle", "noise AUROC", "noisy_val", "last", "seeds",
)  # fmt: skip
"""Columns that a narrow terminal hides, the first one first."""

WRAPPED = ("published", "privileged info", "verified", "stack")
"""Columns of text, whose lines may be broken."""


def fitting_columns(widths: Mapping[str, int], width: int, kept: str = "") -> list[str]:
    """Return the columns of a table that fit into a width, without the least important ones.

    Args:
        widths: characters of each column by its title.
        width: characters of a line.
        kept: column that is never left out, such as the one by which stacks are ranked.

    Example:
        >>> fitting_columns({"stack": 10, "last": 10, "worst class": 10}, 24)
        ['stack', 'last']
    """
    shown = list(widths)
    for name in LEAST_IMPORTANT:
        # Two spaces between columns, and none after the last one.
        if sum(widths[column] + 2 for column in shown) - 2 <= width:
            break
        if name in shown and name != kept:
            shown.remove(name)
    return shown


def column_width(title: str, cells: Sequence[str]) -> int:
    """Return the characters that a column needs: those of its longest word if its lines may be broken.

    Example:
        >>> column_width("privileged info", ["none", "noise_rate"]), column_width("last", ["96.7 ± 0.6"])
        (10, 10)
    """
    if title == "stack":
        return min(max(map(len, [title, *cells])), MAX_TEXT_WIDTH)
    pieces = [word for text in (title, *cells) for word in text.split()] if title in WRAPPED else [title, *cells]
    return min(max(map(len, pieces)), MAX_TEXT_WIDTH) if title in WRAPPED else max(map(len, pieces))


def render_settings(settings: Sequence[Setting], width: int, intervals: bool = False) -> Iterator[RenderableType]:
    """Yield the leaderboard, one table per setting, and the verdicts over the settings.

    Args:
        settings: settings with their stacks.
        width: characters of a line.
        intervals: show 95 % intervals in place of standard deviations.
    """
    from noisybench.leaderboard.columns import measured_columns
    from noisybench.leaderboard.setting_description import distinct_titles
    from noisybench.leaderboard.text_tables import COLUMNS, detector_rows, footnote, text_rows
    from noisybench.leaderboard.verdict_text import verdict_paragraphs

    titles = distinct_titles([setting.description for setting in settings])
    for title, setting in zip(titles, settings, strict=True):
        rows = text_rows(setting, intervals)
        # Columns without a value in this setting are left out.
        measured = measured_columns(rows)
        widths = {COLUMNS[index]: column_width(COLUMNS[index], [row[index] for row in rows]) for index in measured}
        shown = fitting_columns(widths, width, setting.rule)
        hidden = [COLUMNS[index] for index in measured if COLUMNS[index] not in shown]
        table = Table(
            title=title,
            title_style="bold",
            title_justify="left",
            box=None,
            header_style="bold",
            pad_edge=False,
        )
        indices = [index for index in measured if COLUMNS[index] in shown]
        for index in indices:
            name = COLUMNS[index]
            table.add_column(
                name,
                justify="left" if name in WRAPPED else "right",
                style="bright_black" if name == "oracle" else None,
                no_wrap=name not in WRAPPED,
                min_width=widths[name],
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(row[index] for index in indices))
        yield table
        if hidden:
            text = f"Not shown for lack of width: {', '.join(hidden)} (`--format markdown` has them)."
            yield Text(text, style="bright_black")
        yield Text(footnote(setting), style="bright_black")
        detectors = detector_rows(setting)
        if detectors:
            yield from _render_detectors(detectors)
        for note in setting.notes:
            yield Text(f"Note: {note}.")
        for warning in setting.warnings:
            yield Text(f"Note: {warning}.", style="yellow")
        yield Text("")
    for heading, sentences in verdict_paragraphs(settings):
        yield Text(heading, style="bold")
        for number, sentence in enumerate(sentences):
            yield Text(sentence, style="bright_black" if number else "")
        yield Text("")


def render_excluded(excluded: Sequence[Mapping[str, str]]) -> Iterator[RenderableType]:
    """Yield the runs that no table shows, with the reasons.

    Args:
        excluded: title of each run as ``what``, and the reason as ``why``.
    """
    if not excluded:
        return
    yield Text(f"Excluded: {count_runs(len(excluded))}", style="yellow")
    for each in excluded[:MAX_EXCLUDED]:
        yield Text(f"  {each['what']}: {each['why']}", style="yellow")
    if len(excluded) > MAX_EXCLUDED:
        yield Text(f"  and {len(excluded) - MAX_EXCLUDED} more; `noisybench doctor` lists all", style="yellow")


def render_reproductions(reproductions: Sequence[Reproduction]) -> Iterator[RenderableType]:
    """Yield the published results that were measured; nothing if there are none.

    Args:
        reproductions: all published results, from `reproduction.reproduce`.
    """
    from noisybench.leaderboard.reproduction import COLUMNS, NOT_RUN, text_rows

    measured = [entry for entry in reproductions if entry.status != NOT_RUN]
    if not measured:
        return
    table = Table(
        title="Reproduction of published results",
        title_style="bold",
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    shown = [index for index, name in enumerate(COLUMNS) if name not in ("our stack", "network")]
    for index in shown:
        table.add_column(COLUMNS[index], overflow="fold")
    for row in text_rows(measured):
        table.add_row(*(row[index] for index in shown))
    yield table
    rest = len(reproductions) - len(measured)
    text = f"Mean ± standard deviation (seeds). {rest} others are not run: `noisybench leaderboard reproduction` lists all."
    yield Text(text, style="bright_black")
    yield Text("")


def _render_detectors(rows: Sequence[Sequence[str]]) -> Iterator[RenderableType]:
    from noisybench.leaderboard.text_tables import DETECTOR_COLUMNS, DETECTOR_NOTE

    table = Table(box=None, header_style="bold", pad_edge=False)
    # Numbers are never cut for the sake of a long stack name.
    shown = [index for index in range(len(DETECTOR_COLUMNS)) if any(row[index] != "–" for row in rows)]
    for index in shown:
        is_number = index > 1
        table.add_column(
            DETECTOR_COLUMNS[index],
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=index > 0,
            min_width=max(len(row[index]) for row in rows) if is_number else None,
        )
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    yield table
    yield Text(DETECTOR_NOTE, style="bright_black")
