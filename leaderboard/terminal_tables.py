"""Leaderboard tables in the terminal: one table per setting, which always keeps names and the score that ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from noisybench.leaderboard.columns import measured_columns
from noisybench.utils.text import count_runs

if TYPE_CHECKING:
    from noisybench.leaderboard.reproduction import Reproduction
    from noisybench.leaderboard.table import Setting

MAX_EXCLUDED = 5
"""Number of excluded runs that are listed."""

WIDTH_OF_NAMES = 0.4
"""Part of a line that names of stacks may take before columns are hidden; a longer name takes several lines."""

LEAST_IMPORTANT = (
    "verified", "worst class", "by chance", "oracle gap", "balanced acc.", "ECE", "label_wave", "time (s)", "last10",
    "shift acc.", "OOD AUROC", "memorized", "oracle", "noise AUROC", "noisy_val", "last", "privileged info", "seeds", "rank",
)  # fmt: skip
"""Columns that a narrow terminal hides, the first one first. Names and the score that ranks are never hidden."""

LEAST_IMPORTANT_OF_DETECTORS = (
    "OOD balanced acc.", "balanced acc.", "missed at true rate", "flagged", "AP", "precision", "recall", "OOD AUROC",
    "ID noise AUROC", "noise AUROC",
)  # fmt: skip
"""Columns of a table of detectors that a narrow terminal hides, the first one first."""

LEAST_IMPORTANT_OF_REPRODUCTION = ("protocol differences", "difference (σ)", "protocol", "noise", "data")
"""Columns of published results that a narrow terminal hides, the first one first."""

NAMES = ("stack", "method")
"""Columns of names, which get the room that is left."""

WRAPPED = ("stack", "method", "detector", "privileged info", "verified", "data", "noise", "protocol differences")
"""Columns of text, whose lines may be broken between words."""


def fitting_columns(
    widths: Mapping[str, int], width: int, kept: str = "", order: Sequence[str] = LEAST_IMPORTANT
) -> list[str]:
    """Return the columns of a table that fit into a width, without the least important ones.

    Args:
        widths: characters of each column by its title.
        width: characters of a line.
        kept: column that is never left out, such as the one by which stacks are ranked.
        order: columns that may be left out, the first one first.

    Example:
        >>> fitting_columns({"stack": 10, "last": 10, "worst class": 10}, 24)
        ['stack', 'last']
    """
    shown = list(widths)
    for name in order:
        # Two spaces between columns, and none after the last one.
        if sum(widths[column] + 2 for column in shown) - 2 <= width:
            break
        if name in shown and name != kept:
            shown.remove(name)
    return shown


def column_width(title: str, cells: Sequence[str], most: int) -> int:
    """Return the characters that a column needs: those of its longest word if its lines may be broken.

    Args:
        title: title of the column.
        cells: text of its cells.
        most: most characters of names, which take several lines if they are longer.

    Example:
        >>> column_width("privileged info", ["none", "noise_rate"], 24), column_width("last", ["96.7 ± 0.6"], 24)
        (10, 10)
    """
    if title in NAMES:
        return min(max(map(len, [title, *cells])), most)
    pieces = [word for text in (title, *cells) for word in text.split()] if title in WRAPPED else [title, *cells]
    return min(max(map(len, pieces)), most) if title in WRAPPED else max(map(len, pieces))


def plain_table(title: str = "") -> Table:
    """Return a table without lines, with its title on the left."""
    return Table(
        title=title or None, title_style="bold", title_justify="left", box=None, header_style="bold", pad_edge=False
    )


def render_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    title: str = "",
    kept: str = "",
    order: Sequence[str] = LEAST_IMPORTANT,
    wide: bool = False,
    best: Sequence[bool] = (),
) -> Iterator[RenderableType]:
    """Yield a table without the columns that do not fit, and a line that names them.

    Args:
        columns: titles of the columns.
        rows: text of the cells.
        width: characters of a line.
        title: title of the table.
        kept: column that is never left out.
        order: columns that may be left out, the first one first.
        wide: show all columns, in longer lines than the terminal has; print them with ``crop=False``.
        best: whether the `kept` cell of each row is among the best; nothing is emphasized if it is empty.
    """
    measured = measured_columns(rows)
    cells = {name: [row[index] for row in rows] for index, name in enumerate(columns) if index in measured}
    longest = {name: max(map(len, [name, *texts])) for name, texts in cells.items()}
    least = {name: column_width(name, texts, int(WIDTH_OF_NAMES * width)) for name, texts in cells.items()}
    shown = list(cells) if wide else fitting_columns(least, width, kept, order)
    widths = longest if wide else _spread({name: least[name] for name in shown}, longest, width)
    table = plain_table(title)
    for name in shown:
        table.add_column(
            name,
            justify="left" if name in WRAPPED else "right",
            style="bright_black" if name == "oracle" else None,
            width=widths[name],
            no_wrap=name not in WRAPPED,
            overflow="fold",
        )
    for number in range(len(rows)):
        texts = [Text(cells[name][number]) for name in shown]
        if best and best[number]:
            texts[shown.index(kept)].stylize("bold")
        table.add_row(*texts)
    yield Widened(table, sum(widths.values()) + 2 * len(widths)) if wide else table
    hidden = [name for name in cells if name not in shown]
    if hidden:
        yield Text(f"Hidden for lack of width: {', '.join(hidden)} (--wide shows them).", style="bright_black")


@dataclass(frozen=True)
class Widened:
    """Table in lines that are longer than those of the terminal; printed with `crop=False`."""

    table: Table
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.table, options.update(width=max(self.width, options.max_width)))


def _spread(least: Mapping[str, int], longest: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the widths of columns: the least ones, and what is left of a line for columns that need more, names first."""
    widths = dict(least)
    left = width - sum(least[name] + 2 for name in least) + 2
    # Rich would take the room of a wide column from all that wrap, and cut the words of some.
    for name in (*(name for name in NAMES if name in least), *least):
        more = min(max(0, left), longest[name] - widths[name])
        widths[name] += more
        left -= more
    return widths


def render_settings(
    settings: Sequence[Setting], width: int, intervals: bool = False, wide: bool = False
) -> Iterator[RenderableType]:
    """Yield the leaderboard: over several settings the overview first, then one table per setting.

    Args:
        settings: settings with their stacks.
        width: characters of a line.
        intervals: show 95 % intervals in place of standard deviations.
        wide: show all columns, in longer lines than the terminal has.
    """
    from noisybench.leaderboard.display_names import distinct_names
    from noisybench.leaderboard.setting_description import short_titles
    from noisybench.leaderboard.terminal_overview import render_overview

    titles = short_titles([setting.description for setting in settings])
    names = distinct_names(row.stack for setting in settings for row in setting.rows)
    if len(settings) > 1:
        for each in render_overview(settings, titles, names, width, wide):
            yield Constrain(each, width) if isinstance(each, Text) else each
    for number, (title, setting) in enumerate(zip(titles, settings, strict=True), 1):
        heading = f"[{number}] {title}" if len(settings) > 1 else title
        for each in _render_setting(setting, heading, names, width, intervals, wide):
            yield Constrain(each, width) if isinstance(each, Text) else each


def _render_setting(
    setting: Setting, title: str, names: Mapping[str, str], width: int, intervals: bool, wide: bool
) -> Iterator[RenderableType]:
    """Yield the table of a setting, how to read it, and its notes."""
    from noisybench.leaderboard.standings import best_group
    from noisybench.leaderboard.text_tables import (
        COLUMNS,
        DETECTOR_COLUMNS,
        DETECTOR_NOTE,
        detector_rows,
        footnote,
        published_line,
        text_rows,
    )

    # Published values stand below the table: a column of them takes several lines in each row.
    group = best_group(
        setting.ranking.ranks, setting.mean_scores(), {row.stack for row in setting.rows if row.privileged}
    )
    best = [row.stack in group for row in setting.shown_rows]
    shown = [index for index, name in enumerate(COLUMNS) if name != "published"]
    columns = [COLUMNS[index] for index in shown]
    rows = [_with_names(columns, [row[index] for index in shown], names) for row in text_rows(setting, intervals)]
    yield Text(title, style="bold")
    yield from render_table(columns, rows, width, kept=setting.rule, wide=wide, best=best)
    if len(setting.shown_rows) < len(setting.rows):
        yield Text(f"{len(setting.shown_rows)} of {len(setting.rows)} stacks, ranked among all.", style="bright_black")
    yield Text(footnote(setting), style="bright_black")
    published = published_line(setting, names)
    if published:
        yield Text(published, style="bright_black")
    detectors = [_with_names(DETECTOR_COLUMNS, row, names) for row in detector_rows(setting)]
    if detectors:
        yield from render_table(DETECTOR_COLUMNS, detectors, width, order=LEAST_IMPORTANT_OF_DETECTORS, wide=wide)
        yield Text(DETECTOR_NOTE, style="bright_black")
    for note in setting.notes:
        yield Text(f"Note: {note}.")
    for warning in setting.warnings:
        yield Text(f"Note: {_shortened(warning, setting, names)}.", style="yellow")
    yield Text("")


def _with_names(columns: Sequence[str], row: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return a row with the name of its stack replaced."""
    return [names[cell] if column == "stack" else cell for column, cell in zip(columns, row, strict=True)]


def _shortened(text: str, setting: Setting, names: Mapping[str, str]) -> str:
    """Return a note with short names; longer names first, since they may contain others."""
    for stack in sorted((row.stack for row in setting.rows), key=len, reverse=True):
        if names[stack] != stack:
            text = text.replace(stack, names[stack])
    return text


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


def render_reproductions(
    reproductions: Sequence[Reproduction], width: int, wide: bool = False
) -> Iterator[RenderableType]:
    """Yield the published results that were measured; nothing if there are none.

    Args:
        reproductions: all published results, from `reproduction.reproduce`.
        width: characters of a line.
        wide: show all columns, in longer lines than the terminal has.
    """
    from noisybench.leaderboard.reproduction import COLUMNS, NOT_RUN, text_rows

    measured = [entry for entry in reproductions if entry.status != NOT_RUN]
    if not measured:
        return
    shown = [index for index, name in enumerate(COLUMNS) if name not in ("our stack", "network")]
    yield from render_table(
        [COLUMNS[index] for index in shown],
        [[row[index] for index in shown] for row in text_rows(measured)],
        width,
        title="Reproduction of published results",
        order=LEAST_IMPORTANT_OF_REPRODUCTION,
        wide=wide,
    )
    rest = len(reproductions) - len(measured)
    text = (
        f"Mean ± standard deviation (seeds). {rest} other{'' if rest == 1 else 's'} not run: "
        "`noisybench leaderboard reproduction` lists all."
    )
    yield Text(text, style="bright_black")
    yield Text("")
