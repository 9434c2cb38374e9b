"""Check of an audit of traces by planted errors: digits that are changed on purpose, and found or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from noisybench.audit.traces.decoders import CharacterSurprise, FoldDecoders
from noisybench.audit.traces.inputs import TraceAuditInput
from noisybench.audit.traces.scores import score_traces
from noisybench.audit.traces.steps import find_steps
from noisybench.data.targets import Tokens
from noisybench.utils.seeds import Stream

PLANTED_SHARE = 0.1
"""Fraction of the traces in which an error is planted, if that are `MIN_PLANTED`."""

MIN_PLANTED = 50
"""Number of planted errors without which surprise is not used; at most half of the traces get one."""

EASY_SHARE = 0.9
"""Fraction of the other traces than which a planted error must be more suspicious to count as found."""

MIN_AUROC = 0.6
"""Lower end of the interval of the AUROC of planted steps that surprise must exceed, for an estimate."""

NORMAL_QUANTILE = 1.96
"""Half of a 95 % interval in standard errors."""

DIGITS = "0123456789"


@dataclass(frozen=True)
class TraceReliability:
    """Measurements that say how far an audit of traces can be trusted.

    Attributes:
        accuracy: fraction of the characters that decoders predict which were not trained on the prompt.
        num_planted: number of traces in which a digit was changed; 0 if no trace has a digit.
        executed: fraction of the planted errors that re-execution contradicts.
        auroc: AUROC of the surprise of steps with a planted error against all other steps; NaN without planted errors.
        auroc_interval: 95 % interval of the AUROC.
        found: fraction of the planted traces that are more suspicious than nine tenths of the others that nothing contradicts.
        problem: reason for which surprise is not used; None if it is.
    """

    accuracy: float
    num_planted: int
    executed: float
    auroc: float
    auroc_interval: tuple[float, float]
    found: float
    problem: str | None


def measure_reliability(
    data: TraceAuditInput, decoders: FoldDecoders, surprise: CharacterSurprise, seed: int
) -> TraceReliability:
    """Plant errors in a known share of the traces, and measure how many an audit of them finds.

    The decoders are not trained again: none was trained on the prompt of a trace that it scores.

    Args:
        data: traces to audit.
        decoders: decoders of the folds.
        surprise: their surprise by the observed traces.
        seed: seed of the planted errors.
    """
    accuracy = float(surprise.correct[data.is_character & surprise.covered[:, None]].mean())
    planted, rows, places = plant_errors(data, seed)
    if not len(rows):
        nowhere = "no trace has a digit in which an error could be planted"
        return TraceReliability(accuracy, 0, 0.0, np.nan, (0.0, 1.0), 0.0, nowhere)
    changed = decoders.surprise(data, planted)
    steps = find_steps(data.trace_format, data.prompts, data.trace_format.decode(planted))
    is_planted = np.zeros(len(steps.trace), dtype=bool)
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        is_planted |= (steps.trace == row) & (steps.start <= place) & (place < steps.stop)
    step_surprise = changed.of_spans(steps.trace, steps.start, steps.stop)
    auroc, interval = _auroc(step_surprise, is_planted)
    problem = None
    if len(rows) < MIN_PLANTED:
        problem = f"an error could be planted in {len(rows)} traces, and an estimate needs {MIN_PLANTED}"
    elif not interval[0] > MIN_AUROC:
        problem = (
            f"of {len(rows)} digits that were changed on purpose, the decoders are hardly more surprised than by other steps "
            f"(AUROC {auroc:.2f}, {interval[0]:.2f} to {interval[1]:.2f}; chance is 0.50)"
        )
    scores = score_traces(steps, data.prompt_groups, None if problem else changed)
    is_other = ~scores.contradicted
    is_other[rows] = False
    threshold = np.quantile(scores.suspicion[is_other], EASY_SHARE) if is_other.any() else 1.0
    found = (scores.suspicion[rows] > threshold).mean()
    failed = np.isin(steps.trace[is_planted & (steps.failed == 1)], rows).sum() / len(rows)
    return TraceReliability(accuracy, len(rows), float(failed), auroc, interval, float(found), problem)


def plant_errors(data: TraceAuditInput, seed: int) -> tuple[Tokens, NDArray[np.int64], NDArray[np.int64]]:
    """Change one digit of a response before its answer in some of the traces.

    Returns:
        The (N, T) characters, the (K,) positions of the changed traces, and the (K,) positions of the changed characters. Traces
        without a digit before their answer are not changed.
    """
    stream = Stream("audit", "planted traces", seed, len(data))
    tokens, rows, places = data.observed.copy(), [], []
    digits = np.array([data.trace_format.vocabulary.index(digit) for digit in DIGITS])
    count = min(len(data) // 2, max(MIN_PLANTED, round(PLANTED_SHARE * len(data))))
    for row in stream.permutation(len(data))[:count].tolist():
        end = data.trace_format.line_spans(*data.trace_format.split_response(data.responses[row]))[-1][0]
        candidates = np.flatnonzero(np.isin(tokens[row, :end], digits))
        if len(candidates):
            drawn = stream.uniform(2)
            place = int(candidates[int(drawn[0] * len(candidates))])
            written = int(np.flatnonzero(digits == tokens[row, place])[0])
            tokens[row, place] = digits[(written + 1 + int(drawn[1] * 9)) % 10]
            rows.append(row)
            places.append(place)
    return tokens, np.array(rows, dtype=np.int64), np.array(places, dtype=np.int64)


def _auroc(surprise: NDArray[np.float64], is_planted: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Return the AUROC of planted steps and its 95 % interval (Hanley and McNeil 1982); NaN without covered ones."""
    known = ~np.isnan(surprise)
    positive, negative = int((is_planted & known).sum()), int((~is_planted & known).sum())
    if not positive or not negative:
        return float("nan"), (0.0, 1.0)
    ranks = rankdata(surprise[known])
    area = float((ranks[is_planted[known]].sum() - positive * (positive + 1) / 2) / (positive * negative))
    # Probabilities that two planted steps rank above one other, and one above two others.
    both, one = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (both - area**2) + (negative - 1) * (one - area**2)
    half = NORMAL_QUANTILE * float(np.sqrt(variance / (positive * negative)))
    return area, (max(0.0, area - half), min(1.0, area + half))
