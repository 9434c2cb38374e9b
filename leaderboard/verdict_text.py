"""Verdicts in sentences, for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noisybench.leaderboard.rounding import fixed, rounded
from noisybench.leaderboard.setting_scores import RANKING_RULES, setting_scores
from noisybench.leaderboard.table import Setting
from noisybench.leaderboard.verdict import (
    BASELINE,
    MAX_NAMED,
    Finding,
    Margin,
    Verdict,
    reach_verdicts,
)

SCOPES = {
    "label_sets": "Holds for these settings and label sets only ({draws} of the noise per setting is too few to say more)",
    "draws": "Holds for these settings, over draws of their noise",
}
"""Sentences about the scope of a verdict."""


def verdict_sentences(verdict: Verdict) -> list[str]:
    """Return a verdict as sentences, the most important one first.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.setting_scores import setting_scores
        >>> from noisybench.leaderboard.table import build_settings
        >>> from noisybench.leaderboard.verdict import reach_verdicts
        >>> runs = [each for each in builtin_measurements() if each.entry == "stress-digits"]
        >>> verdict, = reach_verdicts(map(setting_scores, build_settings(runs)), "last")
        >>> print(verdict_sentences(verdict)[0].partition(" (")[0])
        elr is best without privileged information
    """
    finding = verdict.finding
    sizes = " x ".join((
        _count("setting", verdict.num_settings, verdict.num_settings),
        _count("draw", *verdict.draws),
        _count("seed", *verdict.seeds),
    ))  # fmt: skip
    baseline = next((margin for margin in finding.margins if margin.stack == BASELINE), None)
    others = [margin for margin in finding.margins if not margin.privileged]
    shown = baseline or others[0]
    parts = [_claim(finding, f" of {finding.num_stacks} stacks over {sizes}")]
    # A pair that is not separated is listed below with its interval.
    if shown.low > 0:
        parts.append(f"{_points(shown.difference)} points over {shown.stack} {_interval(shown)}")
    parts.append(_not_separated(finding, with_intervals=True))
    sentences = ["; ".join(part for part in parts if part)]
    privileged = [margin for margin in finding.margins if margin.privileged]
    if privileged:
        texts = [
            f"{margin.stack} {_points(-margin.difference)} [{_points(-margin.high, '')}, {_points(-margin.low, '')}]"
            for margin in privileged[:MAX_NAMED]
        ]
        sentences.append(f"With privileged information, against {finding.leader}: {_listed(texts, len(privileged))}")
    draws = "one draw" if verdict.draws == (1, 1) else _count("draw", *verdict.draws)
    scope = SCOPES[finding.scope].format(draws=draws)
    sentences.append(f"{scope}. 95 % intervals in points, each for its pair alone")
    if verdict.similar is not None:
        parts = [_claim(verdict.similar, ""), _not_separated(verdict.similar, with_intervals=False)]
        sentences.append(f"On settings like these: {'; '.join(part for part in parts if part)}")
    if verdict.left_out:
        sentences.append(f"Not in the verdict: {_listed(verdict.left_out, len(verdict.left_out))}")
    return [f"{sentence}." for sentence in sentences]


def verdict_paragraphs(settings: Sequence[Setting]) -> list[tuple[str, list[str]]]:
    """Return heading and sentences of each verdict over some settings, by the selection rule of their tables."""
    if len(settings) < 2:
        return []
    rule = settings[0].rule
    if rule not in RANKING_RULES:
        return [(f"No verdict by `{rule}`", ["It selects on the test split."])]
    verdicts = reach_verdicts(map(setting_scores, settings), rule)
    return [(verdict_heading(verdict), verdict_sentences(verdict)) for verdict in verdicts]


def verdict_rows(verdict: Verdict) -> list[list[Any]]:
    """Return a row for each stack of a verdict, the leader first.

    Returns:
        Stack, probability of being best (None with privileged information), and its score minus that of the leader with the ends
        of the 95 % interval (None for the leader).
    """
    finding = verdict.finding
    rows: list[list[Any]] = [[finding.leader, round(finding.probability, 3), None, None, None]]
    rows += [
        [
            margin.stack,
            None if margin.probability is None else round(margin.probability, 3),
            *(rounded(value) for value in (-margin.difference, -margin.high, -margin.low)),
        ]
        for margin in finding.margins
    ]
    return rows


def verdict_heading(verdict: Verdict) -> str:
    """Return the heading of a verdict: what it is about, and its selection rule."""
    return f"Verdict by `{verdict.rule}`: {verdict.title}"


def _claim(finding: Finding, among: str) -> str:
    # Stacks of exactly the same mean: none of them leads.
    equal = [margin.stack for margin in finding.margins if not margin.privileged and margin.difference == 0]
    if equal:
        first = _listed([finding.leader, *equal], len(equal) + 1)
        return f"no stack leads without privileged information: {first} have equal scores"
    verb = "is best" if finding.is_best else "leads"
    probability = f"{finding.probability:.2f}".lstrip("0")
    # No simulation makes a stack certain.
    probability = "above .99" if finding.probability > 0.99 else probability
    return f"{finding.leader} {verb} without privileged information (probability {probability} of being best{among})"


def _not_separated(finding: Finding, with_intervals: bool) -> str:
    margins = [margin for margin in finding.margins if not margin.privileged and margin.low <= 0]
    if not margins:
        return "separated from all others"
    texts = [
        f"{margin.stack} ({_points(margin.difference)} {_interval(margin)})" if with_intervals else margin.stack
        for margin in margins[:MAX_NAMED]
    ]
    return f"not separated from {_listed(texts, len(margins))}"


def _listed(texts: Sequence[str], count: int) -> str:
    shown = texts[:MAX_NAMED]
    return ", ".join([*shown, *([f"and {count - len(shown)} more"] if count > len(shown) else [])])


def _points(value: float, sign: str = "+") -> str:
    return f"{float(fixed(value, 1, 100)):{sign}.1f}"


def _interval(margin: Margin) -> str:
    return f"[{_points(margin.low, '')}, {_points(margin.high, '')}]"


def _count(noun: str, low: int, high: int) -> str:
    return f"{low if low == high else f'{low} to {high}'} {noun}{'' if high == 1 else 's'}"
