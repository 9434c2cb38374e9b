"""Records of the runs that a leaderboard ranks, from results and tables of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from noisybench.api.run_result import RunResult
from noisybench.errors import UserError, show
from noisybench.records.schema import RunRecord
from noisybench.records.selection import BALANCED_ACCURACY, SELECTION_RULES, select
from noisybench.tracking.store import Store


def selected_records(
    source: Any, store: Store, rule: str | None, metric: str | None
) -> tuple[list[RunRecord], str | None, str | None]:
    """Return the records of a table or of results, and the rule and metric that a table has rows of.

    Raises:
        UserError: see `leaderboard`.
    """
    if hasattr(source, "columns"):
        return records_of_table(source, store, rule, metric)
    results = source if isinstance(source, Iterable) else [source]
    return [record_of(each) for each in results], rule, metric


def record_of(result: object) -> RunRecord:
    """Return the record of a result of `nb.run`.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(result, RunResult):
        raise UserError(
            f"source: expected a table of nb.results, results of nb.run, or the name of a suite, but got {show(result)}"
        )
    return result.record


def records_of_table(
    frame: Any, store: Store, rule: str | None, metric: str | None
) -> tuple[list[RunRecord], str | None, str | None]:
    """Return the records of the runs in a table, and the rule and metric that it has rows of.

    Raises:
        UserError: see `leaderboard`.
    """
    if "run_id" not in frame.columns:
        raise UserError(
            "source: the table has no column `run_id`, by which its runs are found; filter rows of nb.results"
        )
    if not len(frame):
        raise UserError("source: the table has no rows; check the condition by which it was filtered")
    wanted = dict.fromkeys(frame["run_id"])
    found = {record.run_id: record for record in store.runs.records() if record.run_id in wanted}
    if missing := [run_id for run_id in wanted if run_id not in found]:
        raise UserError(
            f"source: the store {store.connection.address} has no finished run {show(missing[0], quotes=False)}"
            + (f", and {len(missing) - 1} more of the table" if len(missing) > 1 else "")
            + "; call nb.leaderboard in the folder in which the table was made"
        )
    rules, metrics = (frame[name].unique() if name in frame.columns else [] for name in ("rule", "metric"))
    for column in ("stack", "seed"):
        if column in frame.columns:
            _check_column(frame, column, found)
    if {"rule", "score", "metric"} <= set(frame.columns):
        _check_scores(frame, found)
    return (
        list(found.values()),
        rule or (str(rules[0]) if len(rules) == 1 else None),
        metric or (BALANCED_ACCURACY if list(metrics) == [BALANCED_ACCURACY] else None),
    )


def _check_column(frame: Any, column: str, records: dict[str, RunRecord]) -> None:
    """Check that a column of a table, which the board would ignore, is that of the records.

    Raises:
        UserError: it is not.
    """
    import pandas as pd

    for run_id, value in zip(frame["run_id"], frame[column], strict=True):
        record = records[run_id]
        if pd.isna(value) or value != getattr(record, column):
            raise UserError(
                f"source: the table has the {column} {show(value, quotes=False)} for run {run_id} ({record.title}); the board "
                "is computed from records, so give the table of nb.results as it is"
            )


def _check_scores(frame: Any, records: dict[str, RunRecord]) -> None:
    """Check that the scores of a table are those of the records.

    Raises:
        UserError: one is not, so that the ranks would not be those of the table.
    """
    import pandas as pd

    for run_id, rule, metric, value in zip(
        *(frame[name] for name in ("run_id", "rule", "metric", "score")), strict=True
    ):
        record = records[run_id]
        score = select(record, rule, balanced=metric == BALANCED_ACCURACY) if rule in SELECTION_RULES else None
        is_missing = bool(pd.isna(value))
        if (score is None) != is_missing or (score is not None and abs(float(value) - score) > 1e-9):
            raise UserError(
                f"source: the table has another score by {show(rule, quotes=False)} than the record of run {run_id} "
                f"({record.title}); ranks are computed from records, so give the table of nb.results as it is"
            )
