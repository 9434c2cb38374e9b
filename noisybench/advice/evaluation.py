"""Evaluate advice over measured settings: regret against the best stack, each setting advised without its own measurements."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from noisybench.advice.candidates import (
    Candidate,
    baseline_row,
    method_names,
    open_rows,
    rank_candidates,
    shortlist,
    usable_settings,
)
from noisybench.advice.choice import MIN_INTERVAL_REPLICATES, TIE_MARGIN, choose
from noisybench.advice.regime import Regime, regime_of
from noisybench.leaderboard.rounding import fixed
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.statistics import Summary, summarize
from noisybench.leaderboard.table import Setting, StackRow
from noisybench.leaderboard.verdict import BASELINE

MIN_STACKS = 3
"""Fewest stacks of a setting in which advice is evaluated: with two there is little to choose."""
ADVICE = "advice"
"""Strategy of `noisybench advise` itself."""


@dataclass(frozen=True)
class Strategy:
    """Regret of one strategy over settings, as fractions.

    Attributes:
        name: name of the strategy.
        regrets: score of the best stack minus that of the chosen one by setting; settings where it cannot be applied lack.
        summary: mean regret with its interval over settings; None without any.
        without_rates: mean regret if settings of the same noise model at other rates are left out as well; None without any.
    """

    name: str
    regrets: dict[str, float]
    summary: Summary | None
    without_rates: Summary | None

    @property
    def worst(self) -> float | None:
        """Largest regret; None without any."""
        return max(self.regrets.values(), default=None)

    def count_best(self, tolerance: float = 0.005) -> int:
        """Return the number of settings with a regret of at most half a point."""
        return sum(regret <= tolerance for regret in self.regrets.values())


@dataclass(frozen=True)
class Evaluation:
    """Regret of all strategies.

    Attributes:
        strategies: strategies in the order of the table.
        settings: title of each evaluated setting, with its best stack and what was advised.
        against_average: regret of the best stack on average minus that of advice, over the settings that have both; positive
            if advice helps. None without noisy validation labels.
    """

    strategies: tuple[Strategy, ...]
    settings: tuple[tuple[str, str, str], ...]
    against_average: Summary | None


def evaluate_advice(settings: Sequence[Setting], targets: Sequence[Setting] | None = None) -> Evaluation:
    """Return the regret of advice and of simpler strategies, leaving out one setting at a time.

    The setting itself and all others with the same data and noise, whatever their budget or draw, are left out of what the
    candidates are taken from. The same noise model at other rates remains, which is optimistic for noise that nothing measured
    resembles; `Strategy.without_rates` leaves it out as well. Regret is measured by the final score on the test split; the best
    stack is the one with the highest mean over its seeds, which is itself the highest of noisy means.

    Args:
        settings: all measured settings.
        targets: settings to advise on; by default all.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> evaluation = evaluate_advice(build_settings(builtin_measurements()))
        >>> [strategy.name for strategy in evaluation.strategies][:2]
        ['always cross-entropy', 'always ELR']
    """
    known = usable_settings(settings)
    regrets: dict[str, dict[str, float]] = {name: {} for name in STRATEGIES}
    without_rates: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    rows = []
    for setting in usable_settings(settings if targets is None else targets):
        available = {row.stack: row for row in open_rows(setting)}
        if len(available) < MIN_STACKS:
            continue
        others = [other for other in known if _data(other) != _data(setting)]
        other_noise = [other for other in others if _family(other) != _family(setting)]
        best = max(available.values(), key=_score)
        description = setting.description
        # Titles of settings need not differ, as those of budgets with another learning rate.
        key = f"{setting.title} · {description.budget_text} ({description.label_set[:6]}, {description.budget[:6]})"
        advised = "–"
        for name, strategy in STRATEGIES.items():
            chosen = strategy(setting, available, others)
            if chosen is not None:
                regrets[name][key] = _score(best) - chosen[1]
                advised = chosen[0] if name == ADVICE else advised
            if (chosen := strategy(setting, available, other_noise)) is not None:
                without_rates[name].append(_score(best) - chosen[1])
        rows.append((key, best.stack, advised))
    strategies = tuple(
        Strategy(name, values, summarize(list(values.values())), summarize(without_rates[name]))
        for name, values in regrets.items()
    )
    average, advice = regrets[BEST_ON_AVERAGE], regrets[ADVICE]
    differences = [average[key] - advice[key] for key in advice if key in average]
    return Evaluation(strategies, tuple(rows), summarize(differences))


def regret_table(evaluation: Evaluation) -> list[list[str]]:
    """Return the regret of all strategies in points as rows of texts, the titles first.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> regret_table(evaluate_advice(build_settings(builtin_measurements())))[0][:3]
        ['strategy', 'mean regret', '95 % interval']
    """
    cells = [["strategy", "mean regret", "95 % interval", "worst", "best in", "without other rates"]]
    for strategy in evaluation.strategies:
        summary, count = strategy.summary, len(strategy.regrets)
        if summary is None or strategy.worst is None:
            cells.append([strategy.name, "–", "", "", "needs noisy validation labels", ""])
            continue
        interval = f"none: {count} setting{'s' if count > 1 else ''}"
        if summary.low is not None and summary.high is not None and count >= MIN_INTERVAL_REPLICATES:
            interval = f"{fixed(summary.low, 1, 100)} to {fixed(summary.high, 1, 100)}"
        rest = strategy.without_rates
        cells.append([
            strategy.name, fixed(summary.mean, 1, 100), interval, fixed(strategy.worst, 1, 100),
            f"{strategy.count_best()} of {count}", fixed(rest.mean, 1, 100) if rest else "–",
        ])  # fmt: skip
    return cells


def _data(setting: Setting) -> tuple[str, str, str]:
    """Return data and noise of a setting, without budget and draw."""
    description = setting.description
    name = description.dataset.partition("(")[0]
    return name, without_parameters(description.noise, ["seed"]), description.task


def _family(setting: Setting) -> tuple[str, str, str]:
    """Return data and noise model of a setting, without its rate."""
    dataset, noise, task = _data(setting)
    return dataset, noise.partition("(")[0], task


def _score(row: StackRow) -> float:
    summary = row.scores["last"]
    assert summary is not None
    return summary.mean


Chosen = tuple[str, float] | None
"""Name of the chosen stack with its score; None if a strategy cannot be applied."""
Rows = dict[str, StackRow]


def _fixed(method: str) -> Callable[[Setting, Rows, Sequence[Setting]], Chosen]:
    def strategy(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
        if method in rows:
            return method, _score(rows[method])
        # Without its defaults, any of its variants would have been taken.
        variants = [row for stack, row in rows.items() if method_names(stack) == (method,)]
        return (method, statistics.fmean(map(_score, variants))) if variants else None

    return strategy


def _stopped_early(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
    baseline = baseline_row(setting)
    summary = baseline.scores["noisy_val"] if baseline else None
    return (BASELINE, summary.mean) if summary else None


def _random(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
    return "any", statistics.fmean(map(_score, rows.values()))


def _best_on_average(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
    gains: dict[str, list[float]] = {}
    for other in others:
        baseline = baseline_row(other)
        assert baseline is not None
        for row in open_rows(other):
            gains.setdefault(row.stack, []).append(_score(row) - _score(baseline))
    present = {stack: statistics.fmean(values) for stack, values in gains.items() if stack in rows}
    stack = max(present, key=lambda each: (present[each], each), default=BASELINE)
    return stack, _score(rows[stack])


def _candidates(setting: Setting, rows: Rows, others: Sequence[Setting], regime: Regime) -> list[Candidate]:
    ranked = [candidate for candidate in rank_candidates(others, regime) if candidate.stack in rows]
    return shortlist(ranked, regime)[0]


def _first_candidate(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
    candidates = _candidates(setting, rows, others, regime_of(setting.description))
    stack = candidates[0].stack if candidates and candidates[0].gain > 0 else BASELINE
    return stack, _score(rows[stack])


def _best_candidate(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
    candidates = _candidates(setting, rows, others, regime_of(setting.description))
    stack = max([BASELINE, *(candidate.stack for candidate in candidates)], key=lambda each: _score(rows[each]))
    return stack, _score(rows[stack])


def _validated(
    with_estimate: bool = True, all_stacks: bool = False, margin: float = TIE_MARGIN, by_cost: bool = False
) -> Callable[[Setting, Rows, Sequence[Setting]], Chosen]:
    def strategy(setting: Setting, rows: Rows, others: Sequence[Setting]) -> Chosen:
        regime = regime_of(setting.description, with_estimate)
        gains = {candidate.stack: candidate.gain for candidate in _candidates(setting, rows, others, regime)}
        scores = {
            stack: _noisy_scores(rows[stack]) for stack in (rows if all_stacks else dict.fromkeys([BASELINE, *gains]))
        }
        if not all(scores.values()):
            return None
        costs = {stack: row.wall_seconds.mean if row.wall_seconds else 0.0 for stack, row in rows.items()}
        stack = choose(scores, costs, None if by_cost else gains, _resolution(rows), margin).stack
        return stack, _score(rows[stack])

    return strategy


def _resolution(rows: Rows) -> float:
    """Return the step of scores on noisy validation labels; 0 without such labels."""
    largest = max((each.validation_size for row in rows.values() for each in row.measurements), default=0)
    return 1 / largest if largest else 0.0


def _noisy_scores(row: StackRow) -> dict[int, float]:
    """Return the noisy validation score by seed; empty without noisy validation labels."""
    return {each.seed: each.validation for each in row.measurements if each.validation is not None}


BEST_ON_AVERAGE = "best on average"
STRATEGIES: dict[str, Callable[[Setting, Rows, Sequence[Setting]], Chosen]] = {
    "always cross-entropy": _fixed(BASELINE),
    "always ELR": _fixed("elr"),
    "cross-entropy, epoch by noisy validation": _stopped_early,
    "a random stack": _random,
    BEST_ON_AVERAGE: _best_on_average,
    "first candidate, not trained": _first_candidate,
    ADVICE: _validated(),
    "advice without an estimate of the noise": _validated(with_estimate=False),
    "advice, cheapest of the tied": _validated(by_cost=True),
    "the same without an estimate": _validated(with_estimate=False, by_cost=True),
    "advice, cheapest of all that are not separated": _validated(margin=1.0, by_cost=True),
    "advice, leader without regard to ties": _validated(margin=0.0),
    "all stacks by noisy validation": _validated(all_stacks=True, margin=0.0),
    "best of the candidates (bound)": _best_candidate,
}
"""Strategies: each chooses a stack for a setting, from its rows and from the measurements of other settings."""
