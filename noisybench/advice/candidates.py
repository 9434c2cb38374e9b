"""Candidates: the stacks that measured settings like the given labels favor over cross-entropy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from noisybench.advice.regime import Regime, distance
from noisybench.config.overrides import parse_stack
from noisybench.errors import UserError
from noisybench.leaderboard.display_names import is_tuned
from noisybench.leaderboard.table import Setting, StackRow
from noisybench.leaderboard.verdict import BASELINE

NUM_CANDIDATES, NUM_WITHOUT_ESTIMATE = 3, 5
"""Stacks to train beside cross-entropy, and if there is no estimate of the noise rate."""
SCALE = 0.1
"""Distance at which a setting counts e times less than one of the same regime."""
PRIOR_WEIGHT = 0.5
"""Weight of the assumption that a stack gains nothing, as a number of settings of the same regime."""


@dataclass(frozen=True)
class Candidate:
    """One stack with what measured settings say about it.

    Attributes:
        stack: stack of mitigations.
        gain: expected score minus that of cross-entropy, in [-1, 1].
        settings: number of settings in which both were measured.
        relative_cost: duration of a run relative to one of cross-entropy.
    """

    stack: str
    gain: float
    settings: int
    relative_cost: float


def usable_settings(settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings from which advice can be taken: classification with a known rate, cross-entropy and another stack."""
    return [
        setting
        for setting in settings
        if setting.description.metric in ("accuracy", "balanced_accuracy")
        and setting.description.actual_noise_rate is not None
        and baseline_row(setting) is not None
        and len(open_rows(setting)) > 1
    ]


def open_rows(setting: Setting) -> list[StackRow]:
    """Return the rows that have a final score and use no privileged information, without stacks that a search has tuned.

    Parameters that were selected for the labels of one setting say little about others, and advice trains no search.
    """
    return [
        row for row in setting.rows if not row.privileged and row.scores["last"] is not None and not is_tuned(row.stack)
    ]


def baseline_row(setting: Setting) -> StackRow | None:
    """Return the row of cross-entropy; None without one."""
    return next((row for row in open_rows(setting) if row.stack == BASELINE), None)


def rank_candidates(settings: Sequence[Setting], regime: Regime) -> list[Candidate]:
    """Return the measured stacks by their expected gain over cross-entropy, one for each combination of methods.

    The gain is a mean over settings, which count the less the more they differ from the regime, shrunk toward 0 where little
    was measured.

    Args:
        settings: settings, from `usable_settings`.
        regime: regime of the given labels.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> runs = [each for each in builtin_measurements() if each.entry == "quickstart"]
        >>> settings = usable_settings(build_settings(runs))
        >>> rank_candidates(settings, Regime(0.4, "concentrated", 1000, 10, False))[0].stack
        'elr'
    """
    gains: dict[str, list[tuple[float, float]]] = {}
    costs: dict[str, list[float]] = {}
    for setting in settings:
        baseline = baseline_row(setting)
        assert baseline is not None
        weight = math.exp(-distance(setting.description, regime) / SCALE)
        for row in open_rows(setting):
            if row is not baseline:
                gains.setdefault(row.stack, []).append((weight, _mean(row) - _mean(baseline)))
                costs.setdefault(row.stack, []).append(_seconds(row) / max(_seconds(baseline), 1e-9))
    candidates = [
        Candidate(
            stack,
            math.fsum(weight * gain for weight, gain in values)
            / (math.fsum(weight for weight, _ in values) + PRIOR_WEIGHT),
            len(values),
            statistics.median(costs[stack]),
        )
        for stack, values in gains.items()
    ]
    candidates.sort(key=lambda candidate: (-candidate.gain, candidate.relative_cost, candidate.stack))
    # Variants of one method are alike; a few candidates say more if they are different methods.
    best = dict[tuple[str, ...], Candidate]()
    for candidate in candidates:
        best.setdefault(method_names(candidate.stack), candidate)
    return list(best.values())


def method_names(stack: str) -> tuple[str, ...]:
    """Return the names of a stack's mitigations without their parameters.

    Example:
        >>> method_names("mixup+gce(q=0.5)")
        ('mixup', 'gce')
    """
    try:
        return tuple(each if isinstance(each, str) else str(each["name"]) for each in parse_stack(stack))
    except UserError:  # lists inside a parameter
        return (stack,)


def shortlist(
    candidates: Iterable[Candidate], regime: Regime, problem: Callable[[str], str | None] = lambda stack: None
) -> tuple[list[Candidate], list[str]]:
    """Return the few candidates to train, and why better ones are left out.

    Args:
        candidates: candidates, the best one first.
        regime: regime of the labels; without an estimate of its noise rate there are more candidates.
        problem: function that returns why a stack cannot be trained on the labels, or None if it can.
    """
    wanted = NUM_CANDIDATES if regime.noise_rate is not None else NUM_WITHOUT_ESTIMATE
    chosen, left_out = list[Candidate](), list[str]()
    for candidate in candidates:
        if len(chosen) == wanted:
            break
        reason = problem(candidate.stack)
        if reason is None:
            chosen.append(candidate)
        else:
            left_out.append(f"{candidate.stack}: {reason}")
    return chosen, left_out


def _mean(row: StackRow) -> float:
    summary = row.scores["last"]
    assert summary is not None
    return summary.mean


def _seconds(row: StackRow) -> float:
    return row.wall_seconds.mean if row.wall_seconds else 0.0
