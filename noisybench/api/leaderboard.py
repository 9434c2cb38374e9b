"""The leaderboard from Python: ranks of finished runs as tables, plots and text."""

from __future__ import annotations

import contextlib
import functools
import html
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from noisybench.api.paths import read_path
from noisybench.api.ranked_records import selected_records
from noisybench.api.results import METRICS, setting_columns, table_of
from noisybench.api.run_result import RunResult
from noisybench.errors import StoreUnavailable, UserError, nearest, show
from noisybench.leaderboard import terminal_tables
from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.columns import measured_columns, parse_columns
from noisybench.leaderboard.filters import select_settings
from noisybench.leaderboard.measurements import Measurement, measure_valid
from noisybench.leaderboard.page import to_html as page_of
from noisybench.leaderboard.pair_model import Test
from noisybench.leaderboard.ranking_metric import with_metric
from noisybench.leaderboard.reproduction import reproduce
from noisybench.leaderboard.setting_description import distinct_titles
from noisybench.leaderboard.stored import check_any, measurements_of, suite_metric
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.text_tables import (
    COLUMNS,
    footnote,
    published_line,
    text_rows,
    to_csv,
    to_latex,
    to_markdown,
)
from noisybench.leaderboard.verdict_text import verdict_paragraphs
from noisybench.records.equivalence import Equivalence
from noisybench.records.selection import SELECTION_RULES
from noisybench.tracking.equivalences import recorded_equivalences
from noisybench.tracking.store import Store
from noisybench.utils.console import PLAIN_WIDTH, SafeConsole
from noisybench.utils.outputs import write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.console import Console, ConsoleOptions, RenderableType

    from noisybench.execution.session import Session

TESTS: tuple[Test, ...] = ("moderated_t", "anova", "paired_t")
"""Names of paired tests."""

MEASURES = (
    "oracle_gap", "balanced_accuracy", "worst_class_recall", "mean_shift_accuracy", "noise_auroc", "ood_auroc",
    "memorized_fraction", "calibration_error", "wall_seconds",
)  # fmt: skip
"""Further means of each stack in `Leaderboard.rows`, see `leaderboard.table.StackRow`."""


@dataclass(frozen=True)
class Leaderboard:
    """Stacks ranked within each setting by the project's own statistics.

    It prints as the tables of `noisybench leaderboard`, also in notebooks.

    Attributes:
        measurements: the finished runs that are ranked.
        rule: selection rule by which they are ranked.
        test: paired test of the ranking.
        equivalences: recorded equivalences of code.
        excluded: runs that no table shows, as ``what`` and ``why``.
        intervals: show 95 % intervals in place of standard deviations.
        columns: titles of the columns of Markdown and LaTeX between commas; by default those that have values.
        setting: words in the titles of the settings to show; empty for all.
        stacks: stacks to show, or mitigations in them; empty for all. Ranks stay those among all stacks.
        wide: show all columns in the terminal, in longer lines than it has.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> board = Leaderboard(builtin_measurements()[:60])
        >>> board.settings[0].rows[0].stack in str(board)
        True
    """

    measurements: Sequence[Measurement]
    rule: str = "last"
    test: Test = "moderated_t"
    equivalences: Sequence[Equivalence] = ()
    excluded: Sequence[dict[str, str]] = ()
    intervals: bool = False
    columns: str = ""
    setting: str = ""
    stacks: Sequence[str] = ()
    wide: bool = False

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """Ranked stacks of each setting that is shown.

        Raises:
            UserError: no setting or stack matches; the nearest names are given.
        """
        settings = build_settings(self.measurements, self.rule, self.test, self.equivalences)
        return select_settings(settings, self.setting, self.stacks) if self.setting or self.stacks else settings

    @property
    def rows(self) -> pd.DataFrame:
        """One row per setting and stack, best first.

        Columns: those of the setting as in `nb.results`; ``rank`` (1 + the number of significantly better stacks, so that
        equal ranks form a group; missing if not ranked); ``stack``; ``rule`` and ``metric``; ``mean``, ``std``, ``low`` and
        ``high`` of the scores (95 % interval); ``seeds``; ``privileged``; and means of further measures.
        """
        import pandas as pd

        rows = []
        for setting in self.settings:
            for row in setting.shown_rows:
                summary, record = row.scores[self.rule], row.measurements[0].record
                description = setting.description
                shared = setting_columns(record) if record else {"setting": description.title}
                measures = {name: getattr(row, name) for name in MEASURES}
                rows.append(
                    shared
                    | {
                        "rank": setting.ranking.ranks.get(row.stack),
                        "stack": row.stack,
                        "rule": self.rule,
                        "metric": description.metric,
                        "mean": summary and summary.mean,
                        "std": summary and summary.deviation,
                        "low": summary and summary.low,
                        "high": summary and summary.high,
                        "seeds": len(row.measurements),
                        "privileged": ", ".join(row.privileged),
                    }
                    | {name: measure and measure.mean for name, measure in measures.items()}
                )
        return pd.DataFrame(rows).convert_dtypes()

    @property
    def results(self) -> pd.DataFrame:
        """Runs of the board as a table like that of `nb.results`."""
        return table_of(measurement.record for measurement in self.measurements if measurement.record)

    def plot(self) -> list[Axes]:
        """Plot mean and 95 % interval of each stack, one panel per setting, and return the axes of the panels.

        The figure belongs to pyplot: notebooks show it, scripts call `plt.show()` or `axes[0].figure.savefig("board.png")`.
        """
        # Notebooks and `plt.show()` display figures of pyplot only. A notebook would show a figure that is returned twice.
        from matplotlib import pyplot

        from noisybench.leaderboard.plot import plot_settings

        return plot_settings(pyplot.figure(layout="constrained"), self.settings, self.rule)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the tables as CSV with full precision, and write them to a file if a path is given."""
        return _written(to_csv(self.settings), path)

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the tables as Markdown, and write them to a file if a path is given."""
        return _written(to_markdown(self.settings, self.intervals, parse_columns(self.columns)), path)

    def to_latex(self, path: str | os.PathLike[str] | None = None) -> str:
        r"""Return the tables as LaTeX for `\usepackage{booktabs}`, and write them to a file if a path is given."""
        return _written(to_latex(self.settings, self.intervals, parse_columns(self.columns)), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the page of the leaderboard with training curves, and write it to a file if a path is given."""
        board = build_board(self.measurements, self.test, self.equivalences, self.excluded)
        return _written(page_of(board), path)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the tables, notes and verdicts for a terminal, which `rich.print` shows."""
        width = options.max_width
        yield from terminal_tables.render_settings(self.settings, width, self.intervals, self.wide)
        if not self.setting and not self.stacks:
            reproductions = reproduce(self.measurements, self.equivalences)
            yield from terminal_tables.render_reproductions(reproductions, width, self.wide)
        yield from terminal_tables.render_excluded(self.excluded)

    def __str__(self) -> str:
        """Return the tables as plain text."""
        text = io.StringIO()
        # In a notebook, Rich would display the text instead of writing it.
        console = SafeConsole(
            file=text, highlight=False, width=PLAIN_WIDTH, force_jupyter=False, force_terminal=False, no_color=True
        )
        console.print(self, crop=False)  # wide tables have longer lines
        return text.getvalue()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        parts = []
        for title, setting in zip(
            distinct_titles([each.description for each in self.settings]), self.settings, strict=True
        ):
            rows = text_rows(setting, self.intervals)
            # Published values stand below the table: a column of them takes several lines in each row.
            shown = [index for index in measured_columns(rows) if COLUMNS[index] != "published"]
            parts += [f"<h4>{html.escape(title)}</h4>", "<table>", _html_row("th", [COLUMNS[index] for index in shown])]
            parts += [_html_row("td", [row[index] for index in shown]) for row in rows]
            notes = [footnote(setting), published_line(setting, {row.stack: row.stack for row in setting.rows})]
            notes += [f"Note: {note}." for note in (*setting.notes, *setting.warnings)]
            parts += ["</table>", *(f"<p>{html.escape(note)}</p>" for note in notes if note)]
        for heading, sentences in verdict_paragraphs(self.settings):
            items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
            parts.append(f"<h4>{html.escape(heading)}</h4><ul>{items}</ul>")
        parts += [f"<p>Excluded: {html.escape(each['what'])}: {html.escape(each['why'])}</p>" for each in self.excluded]
        return "\n".join(parts)


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        write_text(read_path(path, "path"), text)
    return text


def leaderboard(
    source: pd.DataFrame | Iterable[RunResult] | str | os.PathLike[str] | None = None,
    rule: str | None = None,
    metric: str | None = None,
    test: str = "moderated_t",
    label_set: str | None = None,
    setting: str = "",
    stack: str | Sequence[str] = (),
) -> Leaderboard:
    """Rank the stacks of finished runs, one table per setting.

    Ranks are computed from the records of the store, never from the numbers of a table: a table of `nb.results` selects runs
    by its column ``run_id``, and may be filtered before.

    Args:
        source: table of `nb.results`, results of `nb.run`, name or path of a suite, ``shipped`` for the runs of noisybench's
            entries, or None for all runs of the store.
        rule: selection rule to rank by: last, last10, noisy_val, label_wave or oracle; by default that of the table if it has
            rows of one rule only, else ``last``.
        metric: ``default`` for that of the task, or ``balanced_accuracy``; by default that of the table or suite.
        test: paired test: moderated_t, anova or paired_t.
        label_set: beginning of the hash of a label set, to rank only its runs.
        setting: title of a setting to show, or words in it.
        stack: stacks to show by the names that tables and the page show, or mitigations in them. Ranks stay those among all.

    Raises:
        UserError: an argument is unknown, no run, setting or stack matches, a short name is that of several stacks, or the table
            has no ``run_id``, names runs that the store does not have, or has scores that differ from their records.

    Example:
        >>> import noisybench as nb
        >>> nb.leaderboard(rule="lost")
        Traceback (most recent call last):
        noisybench.errors.UserError: rule: unknown rule `lost`; did you mean `last` or `last10`?
    """
    choices = (
        ("rule", "last" if rule is None else rule, SELECTION_RULES),
        ("metric", "default" if metric is None else metric, METRICS),
        ("test", test, TESTS),
    )
    for name, value, allowed in choices:
        if not isinstance(value, str) or value not in allowed:
            raise UserError(f"{name}: unknown {name} {show(value, quotes=False)}; {nearest(str(value), allowed)}")
    stacks: tuple[Any, ...] = ()
    if stack != "":
        stacks = (stack,) if isinstance(stack, str) or not isinstance(stack, Iterable) else tuple(stack)
    texts = (("label_set", label_set or ""), ("setting", setting), *(("stack", each) for each in stacks))
    for name, text in texts:
        if not isinstance(text, str):
            raise UserError(f"{name}: expected a name as text, but got {show(text)}")
    paired_test = next(name for name in TESTS if name == test)
    if source is None or isinstance(source, str | os.PathLike):
        suite = None if source is None else os.fspath(source)
        measurements, excluded, equivalences = measurements_of(suite, label_set)
        metric = metric or suite_metric(suite)
    else:
        store = Store()
        records, rule, metric = selected_records(source, store, rule, metric)
        measurements, excluded = measure_valid(each for each in records if each.label_set.startswith(label_set or ""))
        check_any(measurements, excluded)
        equivalences = recorded_equivalences(store)
    board = rank(measurements, metric or "default", rule or "last", paired_test, equivalences, excluded)
    if setting or stacks:
        board = replace(board, setting=setting, stacks=stacks)
        assert board.settings  # not only when it is shown: a filter without a match is an error
    return board


def rank(
    measurements: Sequence[Measurement],
    metric: str = "default",
    rule: str = "last",
    test: Test = "moderated_t",
    equivalences: Sequence[Equivalence] = (),
    excluded: Sequence[dict[str, str]] = (),
) -> Leaderboard:
    """Return the leaderboard of measurements by a metric; see `Leaderboard` for the other arguments.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> rank(builtin_measurements()).settings[0].rule
        'last'
    """
    scored, unscored = with_metric(measurements, metric)
    return Leaderboard(scored, rule, test, equivalences, [*excluded, *unscored])


def rank_trained(session: Session, metric: str) -> Leaderboard:
    """Return the leaderboard of a session after its training, and write their rank into the descriptions of trained runs.

    Runs that were finished before have their description. All results are recorded before this, so that a store that has
    become unavailable is no error: nothing more is written.
    """
    from noisybench.leaderboard.run_notes import write_rank_notes

    board = rank_session(session, metric)
    trained = {spec.identity for spec in session.plan.pending}
    run_ids = {record.run_id for record in session.records if record.identity in trained}
    with contextlib.suppress(StoreUnavailable):
        write_rank_notes(session.store, board.settings, run_ids)
    return board


def rank_session(session: Session, metric: str) -> Leaderboard:
    """Return the leaderboard of the finished runs in the settings of a session, whatever their code."""
    measurements, excluded = measure_valid(session.comparable())
    return rank(measurements, metric, equivalences=session.equivalences, excluded=excluded)
