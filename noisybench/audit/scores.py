"""Table of scores: one row for each audited example, with columns for the decisions of a person."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.audit.data_quality import DataQuality
from noisybench.audit.findings import AuditResult
from noisybench.audit.inputs import AuditInput
from noisybench.utils.cells import plain_cell

if TYPE_CHECKING:
    import pyarrow as pa

DECISION_COLUMNS = ("index", "file", "split", "label", "suggested", "decision", "new_label")
"""Columns that identify an example and hold the decision of a person; a table of decisions has these alone."""

COLUMNS = ("rank", *DECISION_COLUMNS, "confidence", "error_score")
"""Columns before those of the detectors and flags."""

TEXT_COLUMNS = ("file", "split", "label", "suggested", "decision", "new_label")
"""Columns of text."""


def score_columns(data: AuditInput, result: AuditResult, quality: DataQuality) -> dict[str, list[Any]]:
    """Return the columns of the table with a row for every example, the most suspicious first.

    Args:
        data: audited examples.
        result: scores and suggestions.
        quality: copies and outliers.

    Returns:
        Columns by name: those of `COLUMNS`, one for each detector, and the flags, which are True for suspects, verified
        labels, examples that equal or resemble an earlier one, and outliers. `duplicate_of` is the `index` of the first example
        of the group, or None. `decision` and `new_label` are empty. Without features there are no columns of outliers.
    """
    rows, names, splits = result.ranking.tolist(), data.class_names, data.splits
    columns: dict[str, list[Any]] = {
        "rank": list(range(1, len(rows) + 1)),
        "index": data.index[result.ranking].tolist(),
        "file": [data.files[row] if data.files else "" for row in rows],
        "split": [splits[row] for row in rows],
        "label": [names[data.observed[row]] for row in rows],
        "suggested": [names[result.suggested[row]] for row in rows],
        "decision": [""] * len(rows),
        "new_label": [""] * len(rows),
        "confidence": result.confidence[result.ranking].tolist(),
        "error_score": result.error_score["combined"][result.ranking].tolist(),
    }
    detectors = {name: scores for name, scores in result.error_score.items() if name != "combined"}
    columns |= {name: scores[result.ranking].tolist() for name, scores in detectors.items()}
    verified = np.zeros(len(rows), dtype=bool) if data.verified is None else data.verified[result.ranking]
    is_suspect = np.arange(len(rows)) < result.num_suspects
    is_duplicate = quality.is_exact_copy | quality.is_near_duplicate
    first = data.index[quality.near_group]
    columns |= {
        "label_quality": result.label_quality[result.ranking].tolist(),
        "is_suspect": is_suspect.tolist(),
        "is_verified": verified.tolist(),
        "is_exact_copy": quality.is_exact_copy[result.ranking].tolist(),
        "is_near_duplicate": quality.is_near_duplicate[result.ranking].tolist(),
        "duplicate_of": [int(first[row]) if is_duplicate[row] else None for row in rows],
    }
    if quality.neighbor_distance is not None and quality.is_outlier is not None:
        columns["neighbor_distance"] = quality.neighbor_distance[result.ranking].tolist()
        columns["is_outlier"] = quality.is_outlier[result.ranking].tolist()
    return columns


def to_csv(data: AuditInput, result: AuditResult, quality: DataQuality) -> str:
    """Return the table of scores as CSV text that a spreadsheet opens without computing formulas."""
    text, columns = io.StringIO(), score_columns(data, result, quality)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_cells(name, values) for name, values in columns.items()), strict=True))
    return text.getvalue()


def _cells(name: str, values: list[Any]) -> list[str]:
    """Return the cells of one column."""
    if name in TEXT_COLUMNS:
        return [plain_cell(value) for value in values]
    return [
        "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value).lower() for value in values
    ]


def to_parquet(data: AuditInput, result: AuditResult, quality: DataQuality) -> bytes:
    """Return the table of scores as a Parquet file, with unrounded scores and names as the source gives them."""
    import pyarrow as pa
    from pyarrow import parquet

    columns, buffer = score_columns(data, result, quality), io.BytesIO()
    arrays: dict[str, pa.Array] = {
        name: pa.array(values, pa.string() if name in TEXT_COLUMNS else pa.int64() if name == "duplicate_of" else None)
        for name, values in columns.items()
    }
    parquet.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()
