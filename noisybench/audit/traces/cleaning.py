"""Cleaned traces: records that are kept and dropped by an audit or by a detector of a finished run, with their scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.traces.inputs import TRACE_TASKS, TraceAuditInput, input_of_labels
from noisybench.audit.traces.report import TraceAuditReport
from noisybench.audit.traces.tables import step_table
from noisybench.config.resolve import resolve
from noisybench.errors import UserError, nearest, show
from noisybench.evaluation import metrics
from noisybench.evaluation.traces import check_responses, mean_step_losses, mean_trace_losses
from noisybench.tracking.models import find_finished_run
from noisybench.tracking.store import Store

AUDIT = "audit"
"""Field of a record with its scores; a field of the user of this name becomes `original_audit`."""

DETECTORS = ("trace_loss", "trace_worst_step", "trace_execution")
"""Detectors of a run on traces, as its record names them."""

MIN_LABEL_QUALITY = 1e-6
"""Lower bound of the label quality in losses, which is stored in half precision."""


@dataclass(frozen=True)
class CleanedTraces:
    """Records of all traces, in the given order, each with its scores in the field `audit`.

    Attributes:
        kept: records that are kept.
        dropped: records that are dropped.
        rule: why records are dropped, in one line.
    """

    kept: tuple[dict[str, Any], ...]
    dropped: tuple[dict[str, Any], ...]
    rule: str

    def __repr__(self) -> str:
        return f"{len(self.kept)} traces kept, {len(self.dropped)} dropped: {self.rule}"


def clean_by_audit(report: TraceAuditReport, fraction: float | None = None) -> CleanedTraces:
    """Drop traces that re-execution or a known answer contradicts, or the most suspicious ones.

    Args:
        report: audit of the traces.
        fraction: fraction of the traces to drop, the most suspicious first; None drops those that are contradicted.

    Raises:
        UserError: the fraction is not between 0 and 1.
    """
    scores = report.scores
    dropped, rule = scores.contradicted, "a step fails when it is executed again, or the answer is not the known one"
    if fraction is not None:
        dropped, rule = _first(scores.suspicion, fraction), f"the first {fraction:.1%} by suspicion"
    table = step_table(report)
    steps: list[list[dict[str, Any]]] = [[] for _ in range(len(report.data))]
    columns = zip(
        report.steps.trace.tolist(),
        table["text"],
        scores.step_suspicion,
        report.steps.failed,
        scores.step_surprise,
        strict=True,
    )
    for trace, text, suspicion, failed, surprise in columns:
        verdict = None if math.isnan(failed) else bool(failed)
        steps[trace].append(
            {"text": text, "suspicion": _number(suspicion), "failed": verdict, "surprise": _number(surprise)}
        )
    audits = [
        {
            "suspicion": _number(scores.suspicion[row]),
            "surprise": _number(scores.surprise[row]),
            "disagreement": _number(scores.disagreement[row]),
            "contradicted": bool(scores.contradicted[row]),
            "reasons": report.reasons[row],
            "steps": steps[row],
        }
        for row in range(len(report.data))
    ]
    return _split(report.data.records, audits, dropped, rule)


def clean_by_run(name: str, detector: str = DETECTORS[0], fraction: float | None = None) -> CleanedTraces:
    """Drop training traces that a detector of a finished run flags, or its most suspicious ones.

    Args:
        name: id or identity of the run, or its first digits.
        detector: ``trace_loss`` (mean loss by the label quality of the stack), ``trace_worst_step`` (highest mean loss of a
            step) or ``trace_execution`` (fraction of incorrect steps).
        fraction: fraction of the traces to drop, the highest scores first; None drops those that the detector flags: the
            upper of two components of the losses, or any incorrect step.

    Raises:
        UserError: there is no such run on traces, its data have changed, or an argument is unknown.
    """
    if detector not in DETECTORS:
        raise UserError(f"--detector: unknown detector {show(detector, quotes=False)}; {nearest(detector, DETECTORS)}")
    data, label_quality = _read_run(name)
    checks = check_responses(data.trace_format, data.prompts, data.responses)
    losses = -np.log(np.clip(label_quality.astype(np.float32), MIN_LABEL_QUALITY, 1))
    spans = np.array(
        [
            (row, step.start, step.stop)
            for row, check in enumerate(checks)
            for step in check.steps
            if step.stop > step.start
        ]
    ).reshape(-1, 3)
    step_losses = mean_step_losses(losses, spans)
    worst = np.zeros(len(data))
    np.maximum.at(worst, spans[:, 0], step_losses)
    values = {
        "trace_loss": mean_trace_losses(losses, data.is_character),
        "trace_worst_step": worst,
        "trace_execution": np.array([1 - check.num_correct_steps / len(check.steps) for check in checks]),
    }
    score = values[detector]
    flags = score > 0 if detector == "trace_execution" else metrics.flag_labels(np.exp(-score))
    dropped, rule = flags, f"{detector} of run {name} flags the trace"
    if fraction is not None:
        dropped, rule = _first(score, fraction), f"the first {fraction:.1%} by {detector} of run {name}"
    loss_of_step = {tuple(span): loss for span, loss in zip(spans.tolist(), step_losses.tolist(), strict=True)}
    audits = []
    for row, check in enumerate(checks):
        steps = [
            {
                "text": data.responses[row][step.start : step.stop].removesuffix(data.trace_format.end),
                "loss": _number(loss_of_step.get((row, step.start, step.stop), math.nan)),
                "failed": not step.is_correct,
            }
            for step in check.steps
        ]
        scores = {key: _number(of_trace[row]) for key, of_trace in values.items()}
        audits.append(
            {**scores, "flagged": bool(flags[row]), "reasons": [rule] if dropped[row] else [], "steps": steps}
        )
    return _split(data.records, audits, dropped, rule)


def check_fraction(fraction: float | None) -> None:
    """Refuse a fraction of traces to drop that is not between 0 and 1.

    Raises:
        UserError: it is not.
    """
    if fraction is not None and not 0 < fraction < 1:
        raise UserError(f"--fraction: must be above 0 and below 1, but got {fraction:g}")


def write_traces(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Return records as JSON lines."""
    return "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records).encode()


def _read_run(name: str) -> tuple[TraceAuditInput, NDArray[np.float16]]:
    """Return the training traces of a run, and the (N, T) label quality of their characters."""
    store = Store()
    run = find_finished_run(store, name)
    record = store.runs.record(run)
    if record.spec["task"]["name"] not in TRACE_TASKS:
        raise UserError(f"run {name} ({record.title}): its task is {record.spec['task']['name']}, which has no traces")
    spec = resolve(record.spec)
    dataset = spec.dataset.build().load()
    data = input_of_labels(record.title, spec, dataset, spec.noise.build().apply(dataset))
    with store.runs.open_file(run, "samples.npz") as path:
        if path is None:
            raise UserError(
                f"run {name} ({record.title}): its file samples.npz is no longer in the store; run it again"
            )
        with np.load(path) as arrays:
            observed, label_quality = arrays["observed"], arrays["label_quality"]
    if not np.array_equal(observed, data.observed):
        raise UserError(f"run {name} ({record.title}): its traces have changed since; run it again")
    return data, label_quality


def _first(score: NDArray[np.float64], fraction: float) -> NDArray[np.bool_]:
    """Return a mask of the fraction of the highest scores."""
    check_fraction(fraction)
    dropped = np.zeros(len(score), dtype=bool)
    dropped[np.argsort(-score, kind="stable")[: round(fraction * len(score))]] = True
    return dropped


def _split(
    records: Sequence[Mapping[str, Any]], audits: Sequence[Mapping[str, Any]], dropped: NDArray[np.bool_], rule: str
) -> CleanedTraces:
    annotated = [
        {f"original_{AUDIT}" if name == AUDIT else name: value for name, value in record.items()} | {AUDIT: audit}
        for record, audit in zip(records, audits, strict=True)
    ]
    pairs = list(zip(annotated, dropped.tolist(), strict=True))
    return CleanedTraces(
        tuple(record for record, is_dropped in pairs if not is_dropped),
        tuple(record for record, is_dropped in pairs if is_dropped),
        rule,
    )


def _number(value: float) -> float | None:
    """Return a number of few digits for JSON, which has no NaN."""
    return None if math.isnan(value) else round(float(value), 6)
