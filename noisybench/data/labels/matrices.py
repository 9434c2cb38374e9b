"""Labels with one column for each class: votes, one-hot rows, or probabilities (soft labels)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.labels.class_names import normalize_name
from noisybench.data.labels.columns import SUM_TOLERANCE, SoftLabels, read_label_column
from noisybench.data.labels.tables import LabelTable
from noisybench.data.labels.votes import ANONYMOUS, Votes, make_votes
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, show


@dataclass(frozen=True)
class Matrix:
    """Numbers of each example for each class.

    Attributes:
        values: (M, C) float64; NaN where there is none.
        location: name of the columns for messages.

    Examples:
        >>> matrix = Matrix(np.array([[2.0, 1.0], [0.0, 3.0]]), "votes.csv")
        >>> matrix.has_counts, matrix.votes(np.arange(2)).label
        (True, array([0, 0, 1, 1, 1, 1]))
    """

    values: NDArray[np.float64]
    location: str

    @property
    def has_counts(self) -> bool:
        """True for whole numbers of which some are above 1, which count votes."""
        return self._is_whole and bool((np.nan_to_num(self.values) > 1).any())

    @property
    def _is_whole(self) -> bool:
        finite = np.nan_to_num(self.values)
        return bool(np.isfinite(finite).all() and (finite >= 0).all() and (finite % 1 == 0).all())

    def votes(self, rows: NDArray[np.int64]) -> Votes:
        """Return one vote for each that is counted.

        Args:
            rows: (M,) source row of each example; negative ones are left out.

        Raises:
            UserError: a number is no count.
        """
        if not self._is_whole:
            row = int(np.argmax(((np.nan_to_num(self.values) % 1 != 0) | (np.nan_to_num(self.values) < 0)).any(axis=1)))
            raise UserError(
                f"{self.location}: entry {row} has {show(self.values[row].tolist())}, but numbers of votes are whole"
            )
        counts = np.nan_to_num(self.values).astype(np.int64)[rows >= 0]
        example, label = np.nonzero(counts)
        times = counts[example, label]
        index, labels = np.repeat(rows[rows >= 0][example], times), np.repeat(label, times)
        return make_votes((), index, np.full(len(index), ANONYMOUS), labels)

    def classes(self, soft_labels: SoftLabels) -> tuple[NDArray[np.int64], tuple[ReadingNote, ...]]:
        """Return the class of one-hot rows, or the most probable one of soft labels.

        Returns:
            (M,) classes, with `UNKNOWN_TARGET` for rows without numbers or with several most probable classes, and notes.

        Raises:
            UserError: rows are probabilities, and ``soft_labels`` does not accept them; or they are neither.
        """
        present = np.asarray(~np.isnan(self.values).all(axis=1), dtype=bool)
        values = np.where(present[:, None], np.nan_to_num(self.values), np.nan)
        sums = np.nansum(values, axis=1)[present]
        is_soft = bool((values[present] % 1 != 0).any()) and bool((np.abs(sums - 1) <= SUM_TOLERANCE).all())
        if is_soft and soft_labels == "refuse":
            row = int(np.argmax((np.nan_to_num(values) % 1 != 0).any(axis=1)))
            raise UserError(
                f"{self.location} are probabilities (entry {row}: {show(values[row].tolist())}), but a label is one class; "
                "set noise.soft_labels=argmax to use the most probable class of each example"
            )
        column = read_label_column(values, self.location, soft_labels=soft_labels)
        return np.where(column.codes < 0, UNKNOWN_TARGET, column.codes), column.notes


def column_matrix(table: LabelTable, class_names: Sequence[str], location: str) -> Matrix | None:
    """Return the numbers of a table with one column for each class; None if a class has no column.

    Raises:
        UserError: a cell is no number.
    """
    columns = {normalize_name(name): name for name in table.columns}
    names = [normalize_name(name) for name in class_names]
    if not set(names) <= set(columns):
        return None
    values = np.full((len(table), len(names)), np.nan)
    for position, name in enumerate(names):
        for row, cell in enumerate(table.columns[columns[name]]):
            try:
                values[row, position] = float(cell) if cell else np.nan
            except ValueError:
                raise UserError(
                    f"{location}: {table.describe_row(row)}: the column of class {show(name, quotes=False)} has {show(cell)}, "
                    "but needs numbers of votes or probabilities"
                ) from None
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values).any(axis=1))[0])
        raise UserError(f"{location}: {table.describe_row(row)}: contains infinity, which is no number of votes")
    return Matrix(values, location)
