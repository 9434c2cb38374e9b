"""Given out-of-sample predictions of any model, read from a file and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import read_archive, read_array
from noisybench.data.labels.tables import SUFFIXES, read_table
from noisybench.errors import UserError, nearest
from noisybench.utils.places import shown

OPTION = "--pred-probs"
"""Option that names the file, for messages."""

SUM_TOLERANCE = 1e-3
"""Largest difference of a row's sum from 1."""

MIN_EXAMPLES = 50
"""Number of examples from which predictions of all given labels are evidence of a model that was trained on them."""

MAX_ACCURACY = 0.995
"""Fraction of the given labels from which on predictions are taken for those of a model that was trained on them."""


def read_predictions(
    path: Path, class_names: Sequence[str], index: NDArray[np.int64], source_size: int
) -> NDArray[np.float64]:
    """Read a row of class probabilities for each audited example.

    Args:
        path: a `.npy` array, a `.npz` archive with one array or an array `pred_probs`, or a `.csv` or `.parquet` table
            whose columns are the classes.
        class_names: (C,) names of the classes in the order of the columns; columns of a table may have another order.
        index: (N,) rows of the audited examples in their source.
        source_size: number of rows of the source.

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
    values, where = _read(path, class_names), f"{OPTION}: {shown(path)}"
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
    _check_probabilities(rows.astype(np.float64), where)
    return np.asarray(rows, dtype=np.float64)


def _read(path: Path, class_names: Sequence[str]) -> NDArray[np.generic]:
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
    if suffix not in SUFFIXES:
        allowed = ", ".join((".npy", ".npz", *SUFFIXES))
        raise UserError(f"{OPTION}: {shown(path)}: predictions must be a {allowed} file")
    table = read_table(path, OPTION)
    missing = [name for name in class_names if name not in table.columns]
    if missing:
        raise UserError(
            f"{OPTION}: {shown(path)} has no column for the class {missing[0]}; {nearest(missing[0], table.columns)}; name "
            "one column after each class"
        )
    try:
        return np.array([[float(cell) for cell in table.columns[name]] for name in class_names]).T
    except ValueError as error:
        raise UserError(f"{OPTION}: {shown(path)}: a probability is not a number: {error}") from None


def _check_probabilities(rows: NDArray[np.float64], where: str) -> None:
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
    """Return why predictions look as if the model had been trained on the labels; None if they do not.

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
