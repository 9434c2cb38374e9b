"""Choose among trained stacks by their scores on noisy validation labels, with the statistics of the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from noisybench.leaderboard.mixed_model import LabelSetScores, compare_stacks
from noisybench.leaderboard.statistics import rank
from noisybench.leaderboard.verdict import BASELINE

TIE_MARGIN = 0.01
"""Largest difference of scores that counts as a tie; a larger one is more likely than not a real one."""


MIN_INTERVAL_REPLICATES = 3
"""Fewest scores of each stack for an interval: of two, one degree of freedom makes it 13 standard errors wide."""


@dataclass(frozen=True)
class Choice:
    """Outcome of a comparison on noisy validation labels. Scores are fractions.

    Attributes:
        stack: chosen stack.
        leader: stack with the highest mean score.
        tied: stacks that are tied with the leader, which is the first one.
        means: mean score by stack, best first.
        difference: score of the chosen stack minus that of cross-entropy; None if it is cross-entropy.
        low: lower end of the 95 % interval of the difference; None without one, and with fewer scores than
            `MIN_INTERVAL_REPLICATES`.
        high: upper end of the interval.
        probability: probability of the chosen stack of being the best by this score; None if it cannot be computed.
        replicates: number of scores of each stack.
    """

    stack: str
    leader: str
    tied: tuple[str, ...]
    means: dict[str, float]
    difference: float | None
    low: float | None
    high: float | None
    probability: float | None
    replicates: int


def choose(
    scores: Mapping[str, Mapping[int, float]],
    costs: Mapping[str, float],
    gains: Mapping[str, float] | None = None,
    resolution: float = 0.0,
    margin: float = TIE_MARGIN,
) -> Choice:
    """Choose the best stack; of those that are tied with it the one of the highest expected gain, then the cheapest.

    A stack is tied with the leader if their difference is at most the margin, and is not significant. What these labels leave
    open is decided by what was measured on others: by cost alone, cross-entropy would win most ties.

    Args:
        scores: score of each run by stack and seed.
        costs: duration of a run by stack.
        gains: expected gain over cross-entropy by stack; without it, costs alone decide ties.
        resolution: step of the scores.
        margin: largest difference that counts as a tie.

    Example:
        >>> scores = {"cross_entropy": {0: 0.60, 1: 0.61}, "gce": {0: 0.70, 1: 0.72}, "elr": {0: 0.703, 1: 0.719}}
        >>> choice = choose(scores, {"cross_entropy": 1.0, "gce": 1.1, "elr": 1.3})
        >>> choice.leader, choice.tied, choice.stack
        ('elr', ('elr', 'gce'), 'gce')
    """
    means = {stack: sum(values.values()) / len(values) for stack, values in scores.items() if values}
    means = dict(sorted(means.items(), key=lambda item: (-item[1], costs.get(item[0], 0.0), item[0])))
    leader = next(iter(means))
    ranking = rank({stack: scores[stack] for stack in means}, resolution=resolution)

    def is_tied(stack: str) -> bool:
        # Of equal rank, or without a rank for lack of seeds.
        separated = ranking.ranks.get(stack, 1) > ranking.ranks.get(leader, 1)
        return not separated and means[leader] - means[stack] <= margin + 1e-12

    tied = (leader, *(stack for stack in means if stack != leader and is_tied(stack)))
    expected = gains or {}
    chosen = min(tied, key=lambda stack: (-expected.get(stack, 0.0), costs.get(stack, 0.0), -means[stack], stack))
    compared = [stack for stack in means if len(scores[stack]) > 1]
    replicates = min(len(scores[stack]) for stack in means)
    difference = low = high = probability = None
    if chosen != BASELINE and BASELINE in means:
        difference = means[chosen] - means[BASELINE]
    if len(compared) > 1 and chosen in compared:
        comparison = compare_stacks(
            [LabelSetScores("", {stack: scores[stack] for stack in compared}, resolution)], compared, "label_sets"
        )
        tested = comparison.is_tested()
        if tested.all():
            probability = float(comparison.probability_best()[compared.index(chosen)])
        if difference is not None and BASELINE in compared:
            pair = compared.index(chosen), compared.index(BASELINE)
            if tested[pair]:
                difference = float(comparison.difference[pair])
                if replicates >= MIN_INTERVAL_REPLICATES:
                    low, high = (float(ends[pair]) for ends in comparison.intervals())
    return Choice(chosen, leader, tied, means, difference, low, high, probability, replicates)
