"""Finished runs as a tidy table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from noisybench.config.registry import get_entry
from noisybench.errors import UserError, nearest, show
from noisybench.leaderboard.setting_description import describe_setting
from noisybench.leaderboard.stored import stored_records, suite_metric
from noisybench.records.codes import as_code, code_digest
from noisybench.records.schema import RunRecord
from noisybench.records.selection import BALANCED_ACCURACY, SELECTION_RULES, select
from noisybench.tracking.store import Store
from noisybench.utils.places import path_text

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("default", BALANCED_ACCURACY)
"""Names of metrics of the scores."""

COLUMNS = {
    "run_id": "string", "setting": "string", "task": "string", "dataset": "string", "noise": "string", "rate": "Float64",
    "actual_rate": "Float64", "network": "string", "epochs": "Int64", "stack": "string", "seed": "Int64", "rule": "string",
    "metric": "string", "score": "Float64", "privileged": "string", "wall_seconds": "Float64", "train_seconds": "Float64",
    "device_seconds": "Float64", "peak_memory_bytes": "Int64", "parameters": "Int64", "device": "string",
    "label_set": "string", "budget": "string", "code": "string", "finished": "Int64",
}  # fmt: skip
"""Columns of the table of results with their types, see `results`."""


def results(
    suite: str | os.PathLike[str] | None = None, task: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """Return the finished runs of the store: one row for each run and selection rule.

    The columns are:

    - ``run_id``: id of the run, by which `nb.leaderboard` and `nb.load_model` find it;
    - ``setting``: dataset, noise and task with all parameters, in one line;
    - ``task``, ``dataset``, ``noise``: names; ``rate``: rate as given to the noise model, missing if it takes none;
      ``actual_rate``: fraction of mislabeled training examples, missing if unknown;
    - ``network``, ``epochs``, ``stack``, ``seed``;
    - ``rule``: selection rule (last, last10, noisy_val, label_wave, oracle); ``metric``: name of the score; ``score``: test
      score in [0, 1], missing if the rule has none;
    - ``privileged``: privileged information that the stack uses, separated by commas;
    - ``wall_seconds``, ``train_seconds``, ``device_seconds``, ``peak_memory_bytes``, ``parameters``, ``device``: cost of the
      whole run, see `Cost`;
    - ``label_set``, ``budget``, ``code``: hashes; runs are compared only if the first two are equal;
    - ``finished``: end of the run.

    Args:
        suite: name or path of a suite, whose runs are selected by their settings; None for all runs.
        task: name of a task; None for all.
        metric: ``balanced_accuracy``, or ``default`` for the metric of each task; None for that of the suite.

    Returns:
        Table, sorted by setting, stack and seed; of runs that were trained again, the latest. Empty without runs.

    Raises:
        UserError: the suite, task or metric is unknown, or the store cannot be read.

    Example:
        >>> import noisybench as nb
        >>> frame = nb.results(task="classification")
        >>> list(frame.columns[:5])
        ['run_id', 'setting', 'task', 'dataset', 'noise']
        >>> last = frame[frame.rule == "last"].groupby(["setting", "stack"]).score.mean()
    """
    if task is not None:
        get_entry("tasks", task, "task")
    if metric not in (None, *METRICS):
        raise UserError(f"metric: unknown metric {show(metric, quotes=False)}; {nearest(str(metric), METRICS)}")
    name = None if suite is None else path_text(suite, "suite")
    records, _ = stored_records(Store(), name)
    selected = [record for record in records if task in (None, record.spec["task"]["name"])]
    return table_of(selected, metric or suite_metric(name))


def table_of(records: Iterable[RunRecord], metric: str = "default") -> pd.DataFrame:
    """Return runs as a table with the columns of `results`, the latest run of each identity.

    Args:
        records: finished runs, the latest first.
        metric: ``default`` or ``balanced_accuracy``.
    """
    import pandas as pd

    latest: dict[str, RunRecord] = {}
    for record in records:
        latest.setdefault(record.identity, record)
    ordered = sorted(latest.values(), key=lambda record: (record.dataset, record.noise, record.stack, record.seed))
    rows = [row for record in ordered for row in _rows(record, metric == BALANCED_ACCURACY)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    frame["finished"] = pd.to_datetime(frame["finished"], unit="ms", utc=True)
    return frame


def setting_columns(record: RunRecord) -> dict[str, Any]:
    """Return the columns that describe the setting of a run."""
    description, noise = describe_setting(record), record.spec["noise"]
    rate = noise.get("rate")
    return {
        "setting": description.title,
        "task": record.spec["task"]["name"],
        "dataset": record.spec["dataset"]["name"],
        "noise": noise["name"],
        "rate": rate if isinstance(rate, int | float) else None,
        "actual_rate": description.actual_noise_rate,
        "network": description.network,
        "epochs": description.epochs,
    }


def _rows(record: RunRecord, balanced: bool) -> list[dict[str, Any]]:
    cost, shared = record.cost, setting_columns(record)
    return [
        {
            "run_id": record.run_id,
            **shared,
            "stack": record.stack,
            "seed": record.seed,
            "rule": rule,
            "metric": BALANCED_ACCURACY if balanced else record.metric,
            "score": select(record, rule, balanced=balanced),
            "privileged": ", ".join(record.privileged),
            "wall_seconds": cost.wall_seconds,
            "train_seconds": cost.train_seconds,
            "device_seconds": cost.device_seconds,
            "peak_memory_bytes": cost.peak_memory_bytes,
            "parameters": cost.parameters,
            "device": record.environment.get("device", ""),
            "label_set": record.label_set,
            "budget": record.budget,
            "code": code_digest(as_code(record.code)),
            "finished": record.rows[-1].time,
        }
        for rule in SELECTION_RULES
    ]
