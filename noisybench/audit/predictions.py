"""Given out-of-sample predictions of any model, read from a file and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import read_archive, read_array
from noisybench.data.labels.rows import FILE_COLUMNS, INDEX
from noisybench.data.labels.tables import SUFFIXES, LabelTable, read_table
from noisybench.errors import UserError, nearest, show
from noisybench.utils.places import shown

OPTION = "--pred-probs"
"""Option that names the file, for messages."""

SUM_TOLERANCE = 1e-3
"""Largest difference of a row's sum from 1."""

MIN_EXAMPLES = 50
"""Number of examples from which predictions of all given labels are evidence of a model that was trained on them."""

MAX_ACCURACY = 0.995
"""Fraction of the given labels from which on predictions may be those of a model that was trained on them."""

HARD_TOLERANCE = 1e-6
"""Largest distance from 0 or 1 of the probabilities of a hard prediction."""

MAX_HARD = 0.999
"""Fraction of hard predictions from which on they say nothing about the certainty of the model."""


def read_predictions(
    path: Path,
    class_names: Sequence[str],
    index: NDArray[np.int64],
    source_size: int,
    source_names: Sequence[str] = (),
) -> NDArray[np.float64]:
    """Read a row of class probabilities for each audited example.

    Args:
        path: a `.npy` array, a `.npz` archive with one array or an array `pred_probs`, or a `.csv` or `.parquet` table
            whose columns are the classes.
        class_names: (C,) names of the classes in the order of the columns; columns of a table may have another order.
        index: (N,) rows of the audited examples in their source.
        source_size: number of rows of the source.
        source_names: (source_size,) file names of the source; empty if it has none.

    Returns:
        (N, C) probabilities; each row sums to 1.

    Raises:
        UserError: the file cannot be read, its rows or columns are not those of the examples and classes, or its values are
            no probabilities.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "probabilities.npy"
        ...     np.save(path, np.array([[0.9, 0.1], [0.2, 0.8]]))
        ...     read_predictions(path, ("cat", "dog"), np.array([1]), 2)
        array([[0.2, 0.8]])
    """
    where = f"{OPTION}: {shown(path)}"
    table = read_table(path, OPTION) if path.suffix.lower() in SUFFIXES else None
    values = _read_arrays(path) if table is None else _read_columns(table, class_names)
    rows = match_predictions(values, where, class_names, index, source_size)
    if table is not None:
        _check_order(table, class_names, np.arange(source_size) if len(values) == source_size else index, source_names)
    return rows


def match_predictions(
    values: NDArray[np.generic], where: str, class_names: Sequence[str], index: NDArray[np.int64], source_size: int
) -> NDArray[np.float64]:
    """Return the row of class probabilities of each audited example.

    Args:
        values: (N, C) probabilities of the audited examples, or a row for each one of their source.
        where: name of the probabilities for messages.
        class_names: (C,) names of the classes.
        index: (N,) rows of the audited examples in their source.
        source_size: number of rows of the source.

    Raises:
        UserError: the shape is not that of the examples and classes, or the values are no probabilities.

    Example:
        >>> match_predictions(np.array([[0.9, 0.1], [0.2, 0.8]]), "pred_probs", ("cat", "dog"), np.array([1]), 2)
        array([[0.2, 0.8]])
    """
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise UserError(
            f"{where} must be (N, C) numbers, a row for each example, but is {values.dtype} of shape {values.shape}"
        )
    if values.shape[1] != len(class_names):
        raise UserError(f"{where} has {values.shape[1]} columns, but there are {len(class_names)} classes")
    if len(values) not in (source_size, len(index)):
        expected = f"{len(index)} audited examples"
        if source_size != len(index):
            expected += f" and {source_size} of the source"
        raise UserError(f"{where} has {len(values)} rows, but there are {expected}; give a row for each in their order")
    rows = values[index] if len(values) == source_size else values
    check_probabilities(rows.astype(np.float64), where)
    return np.asarray(rows, dtype=np.float64)


def _read_arrays(path: Path) -> NDArray[np.generic]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_array(path, OPTION)
    if suffix == ".npz":
        arrays = read_archive(path, OPTION)
        if "pred_probs" not in arrays and len(arrays) != 1:
            raise UserError(
                f"{OPTION}: {shown(path)} contains {', '.join(arrays) or 'nothing'}; name the probabilities `pred_probs`"
            )
        return arrays["pred_probs"] if "pred_probs" in arrays else next(iter(arrays.values()))
    allowed = ", ".join((".npy", ".npz", *SUFFIXES))
    raise UserError(f"{OPTION}: {shown(path)}: predictions must be a {allowed} file")


def _read_columns(table: LabelTable, class_names: Sequence[str]) -> NDArray[np.float64]:
    path = table.path
    missing = [name for name in class_names if name not in table.columns]
    if missing:
        raise UserError(
            f"{OPTION}: {shown(path)} has no column for the class {missing[0]}; {nearest(missing[0], table.columns)}; name "
            "one column after each class"
        )
    values = np.empty((len(table), len(class_names)))
    for column, name in enumerate(class_names):
        for row, cell in enumerate(table.columns[name]):
            try:
                values[row, column] = float(cell)
            except ValueError:
                found = f"is {show(cell)}, which is no number" if cell else "is empty"
                raise UserError(
                    f"{OPTION}: {table.describe_row(row)}: the probability of {show(name, quotes=False)} {found}"
                ) from None
    return values


def _check_order(
    table: LabelTable, class_names: Sequence[str], order: NDArray[np.int64], source_names: Sequence[str]
) -> None:
    """Refuse a table whose columns say that its rows are those of other examples than their order says."""
    expected = {INDEX: tuple(str(row) for row in order)}
    if source_names:
        expected |= dict.fromkeys(FILE_COLUMNS, tuple(Path(source_names[row]).name for row in order))
    for column in table.find(list(expected)):
        if column in class_names:
            continue
        cells, names = table.columns[column], expected[column.casefold()]
        # Identifiers of another kind, such as numbers beside file names, say nothing about the order.
        found = [cell.removesuffix(".0") if names is expected[INDEX] else Path(cell).name for cell in cells]
        if names is not expected[INDEX] and not set(found) & set(names):
            continue
        row = next((row for row, pair in enumerate(zip(found, names, strict=True)) if pair[0] != pair[1]), None)
        if row is not None:
            raise UserError(
                f"{OPTION}: {table.describe_row(row)}: the column {show(column, quotes=False)} has {show(cells[row])}, but "
                f"the example in this place is {show(names[row])}; sort the rows in the order of the source (`{INDEX}` in "
                "scores.csv)"
            )


def check_probabilities(rows: NDArray[np.float64], where: str) -> None:
    """Refuse (N, C) rows that are no probabilities.

    Args:
        rows: numbers.
        where: name of the rows for messages.

    Raises:
        UserError: a value is not finite or outside of 0 to 1, or a row does not sum to 1.

    Example:
        >>> check_probabilities(np.array([[0.5, 0.25]]), "pred_probs")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        noisybench.errors.UserError: pred_probs: 1 of 1 rows are no probabilities from 0 to 1 with the sum 1; ...
    """
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        raise UserError(
            f"{where}: {int((~finite).sum())} of {len(rows)} rows contain values that are not finite, the first in row "
            f"{int(np.argmin(finite))}"
        )
    in_range = ((rows >= -SUM_TOLERANCE) & (rows <= 1 + SUM_TOLERANCE)).all(1)
    sums = rows.sum(1)
    valid = in_range & (np.abs(sums - 1) <= SUM_TOLERANCE)
    if not valid.all():
        first = int(np.argmin(valid))
        raise UserError(
            f"{where}: {int((~valid).sum())} of {len(rows)} rows are no probabilities from 0 to 1 with the sum 1; row {first} "
            f"sums to {sums[first]:.4g}. Apply a softmax to logits"
        )


def in_sample_problem(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> str | None:
    """Return why predictions may be those of a model that was trained on the labels; None if they do not look like that.

    Correct labels and a good model look the same, so that this is a suspicion and no proof.

    Example:
        >>> observed = np.arange(100) % 2
        >>> in_sample_problem(observed, np.eye(2)[observed]).partition(":")[0]
        'the predictions equal 100.0 % of the given labels'
    """
    accuracy = float((probabilities.argmax(1) == observed).mean())
    if len(observed) < MIN_EXAMPLES or accuracy < MAX_ACCURACY:
        return None
    return (
        f"the predictions equal {100 * accuracy:.1f} % of the given labels: they look like those of a model that was trained "
        "on these labels; make them by cross-validation"
    )


def hard_problem(probabilities: NDArray[np.float64]) -> str | None:
    """Return why (N, C) predictions are none with probabilities, but classes alone; None if they have probabilities.

    Example:
        >>> hard_problem(np.eye(2)).partition(":")[0], hard_problem(np.array([[0.75, 0.25]]))
        ('the predictions are hard', None)
    """
    hard = np.minimum(np.abs(probabilities), np.abs(1 - probabilities)).max(1) <= HARD_TOLERANCE
    if not len(hard) or hard.mean() < MAX_HARD:
        return None
    return (
        f"the predictions are hard: {hard.mean():.1%} of the rows are 1 for one class and 0 for all others, so that they do "
        "not say how certain the model is, and its errors cannot be separated from those of the labels; give probabilities"
    )
