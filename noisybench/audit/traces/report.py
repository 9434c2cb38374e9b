"""Audit of traces: from the input to the report, its summary and files."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import precision_at
from noisybench.audit.folds import EpochCallback
from noisybench.audit.traces.decoders import describe_decoders, train_fold_decoders
from noisybench.audit.traces.duplicates import TraceDuplicates, find_duplicates
from noisybench.audit.traces.inputs import TraceAuditInput
from noisybench.audit.traces.reliability import TraceReliability, measure_reliability
from noisybench.audit.traces.scores import TraceScores, score_traces
from noisybench.audit.traces.steps import TraceSteps, find_steps
from noisybench.audit.traces.tables import find_reasons, step_table, to_csv, to_parquet, trace_table
from noisybench.data.targets import CLEAN, IN_DISTRIBUTION
from noisybench.evaluation.traces import step_status
from noisybench.utils.files import wrap_write_errors, write_atomically

TOP_FRACTIONS = (0.01, 0.05, 0.1)
"""Fractions of the traces for which the precision of the most suspicious ones is reported."""


@dataclass(frozen=True)
class TraceAuditReport:
    """Input and result of an audit of traces.

    Attributes:
        data: audited traces.
        steps: their steps, re-executed.
        scores: scores of traces and steps.
        duplicates: traces with the same or nearly the same prompt.
        reliability: check by planted errors.
        decoders: one line about the decoders that were trained.
    """

    data: TraceAuditInput
    steps: TraceSteps
    scores: TraceScores
    duplicates: TraceDuplicates
    reliability: TraceReliability
    decoders: str

    @functools.cached_property
    def reasons(self) -> list[list[str]]:
        """What speaks against each trace."""
        return find_reasons(self)

    def save(self, folder: Path) -> None:
        """Write `scores` and `steps`, each as .csv and .parquet, and `findings.json` into a folder.

        Raises:
            UserError: the folder cannot be written.
        """
        contents = {"findings.json": to_json(self).encode()}
        for name, table in (("scores", trace_table(self)), ("steps", step_table(self))):
            contents |= {f"{name}.csv": to_csv(table).encode(), f"{name}.parquet": to_parquet(table)}
        with wrap_write_errors(folder):
            for name, content in contents.items():
                write_atomically(folder / name, content)


def audit_traces(
    data: TraceAuditInput, folds: int = 3, seed: int = 0, on_epoch: EpochCallback = lambda fold, epoch, loss: None
) -> TraceAuditReport:
    """Score traces and steps by re-execution, by the agreement of answers and by decoders of other folds.

    Args:
        data: traces to audit.
        folds: number of folds, from 2; each is scored by a decoder that was trained on the others.
        seed: random seed of folds, decoders and planted errors.
        on_epoch: function that receives fold, epoch and mean training loss.

    Raises:
        UserError: there are fewer prompts than folds, or the network is no decoder.
    """
    steps = find_steps(data.trace_format, data.prompts, data.responses)
    duplicates = find_duplicates(data.prompts, data.responses, data.prompt_groups)
    decoders = train_fold_decoders(data, folds, seed, on_epoch)
    surprise = decoders.surprise(data, data.observed)
    reliability = measure_reliability(data, decoders, surprise, seed)
    scores = score_traces(steps, data.prompt_groups, None if reliability.problem else surprise)
    return TraceAuditReport(data, steps, scores, duplicates, reliability, describe_decoders(data, folds))


def summary(report: TraceAuditReport) -> list[str]:
    """Return the main results as lines of text."""
    data, steps, scores, reliability = report.data, report.steps, report.scores, report.reliability
    executed, failed = int(steps.num_executed.sum()), int(steps.num_failed.sum())
    lines = [
        f"{data.title}: {len(data)} traces of {len(np.unique(data.prompt_groups))} prompts with {len(steps.trace)} steps, "
        f"{report.decoders}",
        f"re-execution: {failed} of the {executed} steps that can be executed or are an answer fail, in "
        f"{(steps.num_failed > 0).mean():.1%} of the traces",
    ]
    known = ~np.isnan(steps.answer_is_incorrect)
    if known.any():
        lines.append(f"answers: {steps.answer_is_incorrect[known].mean():.1%} are not the correct one")
    compared = ~np.isnan(scores.disagreement)
    if compared.any():
        differing = (scores.disagreement[compared] >= 0.5).mean()
        lines.append(
            f"agreement: {compared.sum()} traces share their prompt with others; {differing:.1%} of them have another answer "
            "than at least half of these"
        )
    lines.append(
        f"at least {scores.num_incorrect / len(data):.1%} of the traces are incorrect, if each prompt has one correct answer; "
        "there is no estimate of how many more"
    )
    return [*lines, *_describe_reliability(reliability), *_describe_duplicates(report), *compare_with_clean(report)]


def _describe_reliability(reliability: TraceReliability) -> list[str]:
    lines = [f"decoders: {reliability.accuracy:.1%} of the characters are predicted out of fold"]
    if reliability.num_planted:
        low, high = reliability.auroc_interval
        lines.append(
            f"planted errors: of {reliability.num_planted} traces in which a digit was changed, re-execution contradicts "
            f"{reliability.executed:.1%}, and {reliability.found:.1%} are more suspicious than 9 of 10 other traces that "
            f"nothing contradicts; "
            f"AUROC of the changed steps by surprise: {reliability.auroc:.2f} ({low:.2f} to {high:.2f})"
        )
    if reliability.problem:
        lines.append(f"no estimate of surprise: {reliability.problem}. More traces or budget.epochs may help")
    return lines


def _describe_duplicates(report: TraceAuditReport) -> list[str]:
    copies, answers = report.duplicates, np.array([answer or "" for answer in report.steps.answers])
    near = copies.is_near
    other = int((answers[near] != answers[copies.near[near]]).sum())
    lines = [
        f"duplicates: {int(copies.is_copy.sum())} copies of prompt and response; {int(near.sum())} traces whose prompt nearly "
        f"equals an earlier one, {other} of them with another answer"
    ]
    if copies.num_skipped:
        lines.append(
            f"near duplicates of {copies.num_skipped} prompts were not searched: too many have the same numbers"
        )
    return lines


def compare_with_clean(report: TraceAuditReport) -> list[str]:
    """Return the true noise rate and the precision of each score as lines of text; none without clean traces."""
    data, scores, steps = report.data, report.scores, report.steps
    incorrect = data.is_incorrect
    if incorrect is None:
        return []
    lines = [f"compared with the clean traces: {incorrect.mean():.1%} are incorrect; precision of the scores:"]
    for name, values in (
        ("suspicion", scores.suspicion),
        ("surprise", scores.surprise),
        ("disagreement", scores.disagreement),
    ):
        if not np.isnan(values).all():
            lines.append(f"  {name}: {describe_precision(np.nan_to_num(values, nan=-math.inf), incorrect)}")
    flagged = scores.contradicted
    if flagged.any():
        recall = incorrect[flagged].sum() / max(1, incorrect.sum())
        lines.append(
            f"  contradicted: {incorrect[flagged].mean():.1%} of {flagged.sum()} traces, which are {recall:.1%} of the "
            "incorrect ones"
        )
    if data.error_spans is not None:
        status = step_status(data.error_spans, np.stack([steps.trace, steps.start, steps.stop], axis=1))
        known = np.isin(status, (CLEAN, IN_DISTRIBUTION))
        wrong = (status == IN_DISTRIBUTION)[known]
        precision = describe_precision(scores.step_suspicion[known], wrong)
        lines.append(f"  steps, of which {wrong.mean():.1%} are corrupted, by suspicion: {precision}")
    return lines


def describe_precision(values: NDArray[np.float64], incorrect: NDArray[np.bool_]) -> str:
    """Return the precision of the highest scores as text."""
    return ", ".join(
        f"{precision_at(values, incorrect, fraction):.1%} in the first {fraction:.0%}" for fraction in TOP_FRACTIONS
    )


def to_json(report: TraceAuditReport) -> str:
    """Return the results as JSON text."""
    data, scores, copies = report.data, report.scores, report.duplicates
    groups: dict[int, list[int]] = {}
    for row, first in enumerate(copies.near.tolist()):
        groups.setdefault(first, []).append(int(data.index[row]))
    content: dict[str, Any] = {
        "traces": len(data),
        "steps": len(report.steps.trace),
        "contradicted": data.index[scores.contradicted].tolist(),
        "least_incorrect": scores.num_incorrect,
        "suspects": data.index[scores.suspects].tolist(),
        "reliability": {name: _plain(value) for name, value in asdict(report.reliability).items()},
        "duplicate_prompts": [rows for rows in groups.values() if len(rows) > 1],
    }
    return json.dumps(content, indent=1)


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
