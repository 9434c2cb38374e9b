"""Overview over several settings in the terminal: the verdicts, and a matrix of stacks and settings for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from noisybench.leaderboard.display_names import short_name
from noisybench.leaderboard.rounding import fixed
from noisybench.leaderboard.terminal_tables import WIDTH_OF_NAMES, Widened, plain_table

if TYPE_CHECKING:
    from noisybench.leaderboard.setting_scores import SettingScores
    from noisybench.leaderboard.table import Setting

PRIVILEGED_MARK = " †"
"""Mark of stacks that use privileged information."""


def render_overview(
    settings: Sequence[Setting], titles: Sequence[str], names: Mapping[str, str], width: int, wide: bool = False
) -> Iterator[RenderableType]:
    """Yield each verdict with its matrix of stacks and settings, then the numbered settings with their highest scores.

    Args:
        settings: settings with their stacks, all ranked by one rule.
        titles: their titles, which distinguish them.
        names: names of all stacks to show.
        width: characters of a line.
        wide: show all settings of a matrix, in longer lines than the terminal has.
    """
    from noisybench.leaderboard.setting_scores import RANKING_RULES, setting_scores
    from noisybench.leaderboard.verdict import reach_verdicts
    from noisybench.leaderboard.verdict_text import verdict_heading, verdict_sentences

    rule = settings[0].rule
    if rule not in RANKING_RULES:
        yield Text(f"No verdict by `{rule}`: it selects on the test split.")
        yield Text("")
    scores = [setting_scores(setting, str(number)) for number, setting in enumerate(settings)]
    scores = [_with_names(each, title, names) for each, title in zip(scores, titles, strict=True)]
    for verdict in reach_verdicts(scores, rule):
        yield Text(verdict_heading(verdict), style="bold")
        for number, sentence in enumerate(verdict_sentences(verdict)):
            yield Text(sentence, style="bright_black" if number else "")
        # Keys of the verdict are in the order of its label sets, but readers expect that of the tables.
        indices = sorted(int(key) for key in verdict.settings)
        yield from _matrix([settings[index] for index in indices], [index + 1 for index in indices], names, width, wide)
        yield Text("")
    yield Text(
        f"{len(settings)} settings, with the highest score without privileged information by `{rule}`", style="bold"
    )
    yield _settings_table(settings, titles, names, width)
    yield Text("")


def _with_names(scores: SettingScores, title: str, names: Mapping[str, str]) -> SettingScores:
    """Return the scores of a setting with the names that people see, for the sentences of a verdict."""
    return replace(
        scores,
        title=title,
        dataset=short_name(scores.dataset),
        scores={
            rule: {names[stack]: values for stack, values in by_stack.items()}
            for rule, by_stack in scores.scores.items()
        },
        codes={names[stack]: code for stack, code in scores.codes.items()},
        privileged=frozenset(names[stack] for stack in scores.privileged),
    )


def _settings_table(
    settings: Sequence[Setting], titles: Sequence[str], names: Mapping[str, str], width: int
) -> RenderableType:
    table = plain_table()
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("setting", overflow="fold", ratio=3)
    table.add_column("highest score", overflow="fold", ratio=2)
    table.add_column(settings[0].rule, justify="right", no_wrap=True)
    for number, (setting, title) in enumerate(zip(settings, titles, strict=True), 1):
        best = next((row for row in setting.rows if not row.privileged), None)
        summary = best.scores[setting.rule] if best else None
        table.add_row(
            f"[{number}]",
            Text(title),
            Text(names[best.stack] if best and summary else "–"),
            fixed(summary.mean, 1, 100) if summary else "–",
        )
    table.width = width
    return table


def _matrix(
    settings: Sequence[Setting], numbers: Sequence[int], names: Mapping[str, str], width: int, wide: bool
) -> Iterator[RenderableType]:
    """Yield mean scores in percent of stacks (rows) in settings (columns), the best mean first.

    Args:
        settings: settings of one verdict.
        numbers: their numbers in the overview.
        names: names of all stacks to show.
        width: characters of a line.
        wide: show all settings.
    """
    rows = _matrix_rows(settings, names)
    columns = ["mean", *(f"[{number}]" for number in numbers)]
    widths = [
        max(len(text) for text in (column, *texts)) for column, *texts in zip(columns, *rows.values(), strict=True)
    ]
    longest = max(map(len, ("stack", *rows)))
    # The mean is always shown, and as many settings as fit beside the names.
    left, count = width - min(longest, int(WIDTH_OF_NAMES * width)) - widths[0] - 2, 1
    while count < len(columns) and (wide or left >= widths[count] + 2):
        left -= widths[count] + 2
        count += 1
    name_width = longest if wide else min(longest, width - sum(each + 2 for each in widths[:count]))
    table = plain_table()
    table.add_column("stack", overflow="fold", width=name_width)
    for column, column_width in zip(columns[:count], widths[:count], strict=True):
        table.add_column(Text(column), justify="right", no_wrap=True, width=column_width)
    for name, texts in rows.items():
        table.add_row(Text(name), *(Text(text, style="bold" if text.endswith("*") else "") for text in texts[:count]))
    yield Widened(table, name_width + sum(each + 2 for each in widths)) if wide else table
    notes = ["* in the best rank group of its setting."]
    if any(name.endswith(PRIVILEGED_MARK) for name in rows):
        notes.append("† with privileged information.")
    if count < len(columns):
        notes.append(f"Hidden for lack of width: {', '.join(columns[count:])} (--wide shows them).")
    yield Text(" ".join(notes), style="bright_black")


def _matrix_rows(settings: Sequence[Setting], names: Mapping[str, str]) -> dict[str, list[str]]:
    """Return mean over settings and score in each, as text by marked name, the best mean first."""
    from noisybench.leaderboard.standings import best_group

    scores: dict[str, dict[int, float]] = {}
    best, privileged = set[tuple[str, int]](), set[str]()
    for number, setting in enumerate(settings):
        group = best_group(
            setting.ranking.ranks, setting.mean_scores(), {row.stack for row in setting.rows if row.privileged}
        )
        for row in setting.shown_rows:
            name, summary = names[row.stack], row.scores[setting.rule]
            if summary is not None:
                scores.setdefault(name, {})[number] = summary.mean
            if row.stack in group:
                best.add((name, number))
            if row.privileged:
                privileged.add(name)
    # A mean over fewer settings says nothing beside one over all of them, so such stacks come last without one.
    means = {
        name: sum(values.values()) / len(values) if len(values) == len(settings) else None
        for name, values in scores.items()
    }
    rows = {}
    for name in sorted(means, key=lambda name: (means[name] is None, -(means[name] or 0.0), name)):
        texts = [
            f"{fixed(scores[name][number], 1, 100)}{'*' if (name, number) in best else ' '}"
            if number in scores[name]
            else "– "
            for number in range(len(settings))
        ]
        mean = means[name]
        rows[name + (PRIVILEGED_MARK if name in privileged else "")] = [
            "–" if mean is None else fixed(mean, 1, 100),
            *texts,
        ]
    return rows
