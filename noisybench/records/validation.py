"""Validation of stored records: damaged files and impossible numbers are refused before a table reads them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from noisybench.records.schema import EpochRow, RunRecord, check_format

SCORES = (
    "train_score", "noisy_val_score", "clean_val_score", "test_score", "test_balanced_accuracy",
    "noisy_val_balanced_accuracy", "memorized_chance", "prediction_changes",
)  # fmt: skip
"""Fields of a row that must be fractions."""

MANIFEST_FIELDS = ("noise", "actual_noise_rate", "dataset")
BUDGET_FIELDS = ("network", "epochs", "batch_size", "optimizer", "learning_rate", "lr_schedule", "augmentation")
"""Fields of the specification that describe the setting of a run."""


@functools.cache
def _adapter() -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # A list, because Pydantic lets only other types than dataclasses have a configuration here; its items inherit it.
    return TypeAdapter(list[RunRecord], config=ConfigDict(extra="forbid"))


def parse_record(data: bytes) -> RunRecord:
    """Return the record in the content of a `record.json`.

    Raises:
        ValueError: the file is damaged or has another format, or its numbers are impossible; one line.

    Example:
        >>> parse_record(b"[]")
        Traceback (most recent call last):
        ValueError: expected a JSON object, but got list
    """
    from pydantic import ValidationError

    record: RunRecord
    try:
        records = _adapter().validate_json(b"[" + data + b"]", strict=True)
    except ValidationError as error:
        _check_content(data)
        first = error.errors(include_url=False)[0]
        location = ".".join(map(str, first["loc"][1:]))
        raise ValueError(f"{location}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    if len(records) != 1:
        # An empty file, and records with commas between them, are items of a list as well.
        _check_content(data)
    (record,) = records
    check_format(vars(record))
    problem = next(_problems(record), None)
    if problem is not None:
        raise ValueError(problem)
    return record


def _check_content(data: bytes) -> None:
    """Refuse a file that is no JSON object of this format, which says more than its first field that differs."""
    try:
        content = from_json(data)
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, but got {type(content).__name__}")
    check_format(content)


def _problems(record: RunRecord) -> Iterator[str]:
    """Yield what no finished run can have recorded."""
    if not record.rows:
        yield "it has no rows"
    for row in record.rows:
        yield from _row_problems(row)
    for name in ("test_recall", "noisy_val_recall"):
        if not all(recall is None or 0 <= recall <= 1 for recall in getattr(record, name)):
            yield f"{name}: must have fractions from 0 to 1"
    for name, value in vars(record.cost).items():
        if not (math.isfinite(value) and value >= 0):
            yield f"cost.{name}: must be a number from 0, but is {value}"
    missing = [f"manifest.{name}" for name in MANIFEST_FIELDS if name not in record.manifest]
    budget = record.spec.get("budget")
    missing += [f"spec.budget.{name}" for name in BUDGET_FIELDS if not isinstance(budget, dict) or name not in budget]
    if missing:
        yield f"it lacks {', '.join(missing)}"
        return
    dataset, noise = record.manifest["dataset"], record.manifest["noise"]
    sizes = dataset.get("sizes") if isinstance(dataset, dict) else None
    if not isinstance(sizes, dict) or not isinstance(dataset.get("classes"), list):
        yield "manifest.dataset: lacks sizes or classes"
        return
    for name in ("train", "test"):
        if not isinstance(sizes.get(name), int) or sizes[name] < 1:
            yield f"manifest.dataset.sizes.{name}: must be an integer from 1, but is {sizes.get(name)!r}"
    if not isinstance(noise, dict) or "convention" not in noise:
        yield "manifest.noise: lacks its convention"


_scores = operator.attrgetter(*SCORES)


def _row_problems(row: EpochRow) -> Iterator[str]:
    if row.epoch < 0:
        yield f"rows: epoch {row.epoch} is negative"
    for name, value in zip(SCORES, _scores(row), strict=True):
        if value is not None and not 0 <= value <= 1:
            yield f"rows: epoch {row.epoch}: {name} must be a fraction from 0 to 1, but is {value}"
