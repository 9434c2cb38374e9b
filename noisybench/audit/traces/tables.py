"""Tables of an audit of traces: a row for every trace and for every step."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.audit.traces.scores import SURPRISING
from noisybench.utils.cells import plain_cell

if TYPE_CHECKING:
    import pandas as pd

    from noisybench.audit.traces.report import TraceAuditReport


def trace_table(report: TraceAuditReport) -> pd.DataFrame:
    """Return a row for every trace, the most suspicious first: its scores, reasons, and the fields of its record."""
    import pandas as pd

    data, scores, steps, copies = report.data, report.scores, report.steps, report.duplicates
    order = scores.ranking
    is_suspect = np.zeros(len(data), dtype=bool)
    is_suspect[scores.suspects] = True
    is_duplicate = copies.near != np.arange(len(data))
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(data) + 1),
        "index": data.index[order],
        "row": [data.names[row] for row in order],
        "suspicion": scores.suspicion[order],
        "is_suspect": is_suspect[order],
        "is_contradicted": scores.contradicted[order],
        "failed_steps": steps.num_failed[order],
        "executed_steps": steps.num_executed[order],
        "disagreement": scores.disagreement[order],
        "surprise": scores.surprise[order],
        "answer": [steps.answers[row] for row in order],
        "is_copy": copies.is_copy[order],
        "duplicate_of": pd.array(
            [int(data.index[copies.near[row]]) if is_duplicate[row] else None for row in order], dtype="Int64"
        ),
        "duplicate_prompt": [_kind(report, row) if is_duplicate[row] else None for row in order],
        "reasons": ["; ".join(report.reasons[row]) for row in order],
    }
    fields = list(dict.fromkeys(name for record in data.records for name in record))
    for field in fields:
        name = f"original_{field}" if field in columns else field
        columns[name] = _column([data.records[row].get(field) for row in order])
    return pd.DataFrame(columns)


def step_table(report: TraceAuditReport) -> pd.DataFrame:
    """Return a row for every step, in the order of the traces: its text, scores, and whether re-execution contradicts it."""
    import pandas as pd

    data, scores, steps = report.data, report.scores, report.steps
    end = data.trace_format.end
    texts = [
        data.responses[trace][start:stop].removesuffix(end)
        for trace, start, stop in zip(steps.trace.tolist(), steps.start.tolist(), steps.stop.tolist(), strict=True)
    ]
    failed = pd.array(np.nan_to_num(steps.failed).astype(bool), dtype="boolean")
    failed[np.isnan(steps.failed)] = pd.NA
    return pd.DataFrame(
        {
            "index": data.index[steps.trace],
            "row": [data.names[trace] for trace in steps.trace.tolist()],
            "step": steps.number,
            "text": texts,
            "suspicion": scores.step_suspicion,
            "failed": failed,
            "surprise": scores.step_surprise,
        }
    )


def find_reasons(report: TraceAuditReport) -> list[list[str]]:
    """Return for each trace what speaks against it."""
    data, scores, steps, copies = report.data, report.scores, report.steps, report.duplicates
    reasons: list[list[str]] = [[] for _ in range(len(data))]
    last = np.append(steps.trace[1:] != steps.trace[:-1], True)
    for row in np.flatnonzero(steps.failed == 1).tolist():
        trace = int(steps.trace[row])
        if not last[row]:
            reasons[trace].append(f"step {steps.number[row]} does not follow when it is executed again")
        elif steps.answers[trace] is None:
            reasons[trace].append("it has no answer that can be read")
        else:
            reasons[trace].append(f"the answer {steps.answers[trace]} does not follow from the steps")
    sizes = np.bincount(data.prompt_groups, minlength=len(data))
    for trace in range(len(data)):
        if steps.answer_is_incorrect[trace] == 1:
            reasons[trace].append(f"the answer {steps.answers[trace]} is not the correct one")
        others = int(sizes[data.prompt_groups[trace]]) - 1
        if scores.disagreement[trace] >= 0.5:
            other = round(scores.disagreement[trace] * others)
            reasons[trace].append(f"another answer in {other} of {others} other responses to the prompt")
        if copies.is_copy[trace]:
            reasons[trace].append("prompt and response equal those of an earlier row")
    surprising = np.flatnonzero(np.nan_to_num(scores.step_surprise) >= SURPRISING)
    for row in surprising[np.argsort(-scores.step_surprise[surprising], kind="stable")].tolist():
        deviations = f"{scores.step_surprise[row]:.1f} standard deviations"
        reasons[int(steps.trace[row])].append(f"step {steps.number[row]} is surprising ({deviations})")
    return reasons


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV text that a spreadsheet opens without computing formulas."""
    safe = table.copy()
    for name in safe.columns:
        if safe[name].dtype == object or str(safe[name].dtype).startswith("str"):
            safe[name] = [None if _is_missing(value) else plain_cell(str(value)) for value in safe[name]]
    return safe.to_csv(index=False, lineterminator="\n", float_format="%.4f")


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as a parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _kind(report: TraceAuditReport, row: int) -> str:
    """Return ``same`` or ``near`` for a trace whose prompt occurs before."""
    return "same" if report.duplicates.exact[row] == report.duplicates.near[row] else "near"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _column(values: list[Any]) -> list[Any]:
    """Return the values of a field as one type: numbers, truth values or texts as they are, and JSON for all others."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str} or kinds <= {bool} or kinds <= {int, float}:
        return values
    return [value if value is None or isinstance(value, str) else _json(value) for value in values]


def _json(value: Mapping[str, Any] | list[Any] | Any) -> str:
    return json.dumps(value, ensure_ascii=False)
