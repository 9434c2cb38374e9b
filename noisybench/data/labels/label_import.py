"""Labels of a dataset from a table or an array of the user: one column, corrections, votes of annotators, or soft labels."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import read_array
from noisybench.data.dataset import Dataset, Split
from noisybench.data.labels.class_labels import IntegerLabels
from noisybench.data.labels.class_names import normalize_name
from noisybench.data.labels.columns import SoftLabels
from noisybench.data.labels.decisions import ABSENT, NEW_LABEL, has_decisions, read_decisions
from noisybench.data.labels.mask_decisions import DECISION, NEW_MASK
from noisybench.data.labels.matrices import Matrix, column_matrix
from noisybench.data.labels.rows import NOWHERE, RowMatch, check_distinct, match_rows
from noisybench.data.labels.tables import LabelTable, header_hint, plain_column, plain_text, read_table
from noisybench.data.labels.values import class_indices
from noisybench.data.labels.verification import Verification
from noisybench.data.labels.votes import Votes, make_votes
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET, Targets
from noisybench.errors import UserError, show
from noisybench.utils.places import shown

OBSERVED = "observed"
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "class_label", "category", "choice", "target", "annotation",
)  # fmt: skip
"""Names of columns with labels, as annotation tools call them."""

ANNOTATOR_COLUMNS = (
    "annotator", "annotator_id", "annotator_name", "worker", "worker_id", "workerid", "rater", "rater_id", "labeler",
    "labeler_id", "user", "user_id", "completed_by",
)  # fmt: skip
"""Names of columns with the annotator of each row."""

_WIDE = re.compile(r"(annotator|worker|rater|labell?er|coder|expert|reader|grader|user)_?[a-z]*_*[0-9a-z]+")
"""Columns with the labels of one annotator each, such as `annotator_1`."""


@dataclass(frozen=True)
class ImportOptions:
    """Decisions of the user about a table of labels; see the parameters and attributes of the noise model `from_file`."""

    column: str | None = None
    annotator_columns: tuple[str, ...] = ()
    key: str | None = None
    integer_labels: IntegerLabels = "auto"
    unlabeled: tuple[str, ...] = ()
    soft_labels: SoftLabels = "refuse"
    annotators: str | None = None
    partial: bool = False
    allow_unknown_files: bool = False
    decisions_argument: str | None = None


@dataclass(frozen=True)
class ImportedLabels:
    """Labels by source row.

    Attributes:
        observed: (N,) int64 class of each source row, `UNKNOWN_TARGET` without a label and `ABSENT` if the table does not
            have the example; None if votes or decisions give it.
        votes: votes of several annotators; an example of the table may have none.
        listed: (N,) mask of the source rows that the table has.
        verification: decisions of people about the labels; None if the table has labels.
        notes: facts about the reading.
    """

    observed: NDArray[np.int64] | None
    votes: Votes | None
    listed: NDArray[np.bool_]
    notes: tuple[ReadingNote, ...]
    verification: Verification | None = None


def import_labels(
    path: Path, dataset: Dataset, options: ImportOptions, given: Mapping[str, Targets] | None = None
) -> ImportedLabels:
    """Read the labels of a dataset from a table.

    Args:
        path: a table, see `label_tables.read_table`.
        dataset: the dataset whose examples they belong to.
        options: decisions of the user.
        given: labels of the splits that a table of decisions is about (default: the dataset's own).

    Raises:
        UserError: the table cannot be read, a row belongs to no example or to several, or a label is no class.

    Example:
        >>> import tempfile
        >>> from noisybench.data.dataset import Split
        >>> split = Split(np.zeros((2, 1, 8, 8), np.uint8), targets=np.array([0, 1]), index=np.arange(2))
        >>> dataset = Dataset("toy", split, split, split, ("cat", "dog"), 2, source_names=("cat/1.png", "dog/2.png"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.csv"
        ...     _ = path.write_text("file,observed\\n2.png,dog\\n1.png,dog\\n")
        ...     import_labels(path, dataset, ImportOptions()).observed
        array([1, 1])
    """
    is_dense = dataset.target_kind.dense
    if path.suffix.lower() == ".npy" and options.decisions_argument is None and not is_dense:
        return _read_array(path, dataset, options)
    table = read_table(path, options.decisions_argument or LabelTable.option)
    if options.decisions_argument is not None and not has_decisions(table):
        raise UserError(
            f"{table.name} has no column `{DECISION}` or `{NEW_MASK if is_dense else NEW_LABEL}`, but "
            f"{', '.join(map(str, table.columns))}; add one of them, or read a table of labels with `noisybench labels import`"
        )
    chosen = options.column is not None or options.annotator_columns or options.annotators is not None
    if has_decisions(table) and not chosen and not table.find([OBSERVED]):
        return _read_decisions(table, dataset, options, given)
    if is_dense:
        raise UserError(
            f"{table.name} holds no decisions about masks (columns `{DECISION}` and `{NEW_MASK}`, from the page of an audit); "
            "read other masks with noise=from_folder"
        )
    return _TableReader(table, dataset, options).read()


def _read_decisions(
    table: LabelTable, dataset: Dataset, options: ImportOptions, given: Mapping[str, Targets] | None
) -> ImportedLabels:
    """Read the decisions of a table about given labels, or about the dataset's own."""
    splits = (dataset.train, dataset.validation)
    labels = dict(zip(("train", "validation"), map(own_targets, splits), strict=True)) if given is None else given
    of_dataset = given is None and dataset.train.noisy_targets is None
    verification, notes = read_decisions(
        table, dataset, labels, of_dataset, options.key, options.allow_unknown_files, options.integer_labels
    )
    # Examples without a decision keep their labels.
    listed = np.zeros(dataset.source_size, dtype=bool)
    for split in splits:
        listed[split.index] = True
    return ImportedLabels(None, None, listed, notes, verification)


def _read_array(path: Path, dataset: Dataset, options: ImportOptions) -> ImportedLabels:
    """Read one label, or one number for each class, for each example in the order of the source."""
    array = read_array(path, "noise.path")
    location = f"noise.path: {shown(path)}"
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufUS":
        raise UserError(
            f"{location} must have one label or one row for each example, but is {array.dtype} of {array.shape}"
        )
    if len(array) != dataset.source_size:
        raise UserError(
            f"{location} has {len(array)} labels, but the dataset's source has {dataset.source_size} training examples; "
            "provide one label for each in the order of the source"
        )
    listed, rows = np.ones(len(array), dtype=bool), np.arange(len(array))
    if array.ndim == 1 or array.shape[1] == 1:
        texts = list(map(plain_text, array.reshape(-1).tolist()))
        labels, notes = class_indices(texts, dataset.class_names, location, options.unlabeled, options.integer_labels)
        return ImportedLabels(labels, None, listed, notes)
    if array.shape[1] != dataset.num_classes or array.dtype.kind in "US":
        raise UserError(
            f"{location} has {array.shape[1]} columns, but there are {dataset.num_classes} classes; it needs a column of "
            "numbers for each class, in their order"
        )
    matrix = Matrix(array.astype(np.float64), location)
    if matrix.has_counts or options.annotators is not None:
        return ImportedLabels(None, matrix.votes(rows), listed, ())
    labels, notes = matrix.classes(options.soft_labels)
    return ImportedLabels(labels, None, listed, notes)


@dataclass
class _TableReader:
    """Reader of one table; `read` chooses by the columns."""

    table: LabelTable
    dataset: Dataset
    options: ImportOptions

    @functools.cached_property
    def match(self) -> RowMatch:
        """Examples of the rows; computed when it is known what the columns hold."""
        options, dataset = self.options, self.dataset
        labels = {self._label_column(), self._annotator_column(), *self._wide_columns(), *dataset.class_names}
        size, names, skip = dataset.source_size, dataset.source_names, options.allow_unknown_files
        return match_rows(self.table, size, names, options.key, skip, label_columns=labels)

    def read(self) -> ImportedLabels:
        """Return the labels of the kind that the columns hold."""
        label, annotator, wide = self._label_column(), self._annotator_column(), self._wide_columns()
        location = f"{self.table.name}"
        matrix = None if label or wide else column_matrix(self.table, self.dataset.class_names, location)
        if label and wide and not self.options.column and self.options.annotators is None:
            raise UserError(
                f"noise.column: {shown(self.table.path)} has the column {show(label, quotes=False)} and the labels of "
                f"{len(wide)} annotators; set noise.column={label} or noise.annotators=majority"
            )
        if self.options.annotators is not None or not (label or self.options.column):
            if wide:
                return self._with_votes(*self._wide_votes(wide))
            if matrix is not None:
                return self._from_matrix(matrix)
        if label is None:
            raise UserError(
                f"{self.table.name} needs a column `{OBSERVED}`, but has "
                f"{', '.join(map(str, self.table.columns))}; set noise.column to the column with the labels, "
                f"or to a list of columns if each has those of one annotator{header_hint(self.table, self.dataset.class_names)}"
            )
        if annotator is not None and self._several(annotator):
            return self._with_votes(*self._long_votes(label, annotator))
        if self.options.annotators is not None:
            raise UserError(
                f"noise.annotators: {shown(self.table.path)} has no labels of several annotators; it needs a column "
                "`annotator`, or one column for each, such as `annotator_1`"
            )
        return self._single(label)

    def _label_column(self) -> str | None:
        if self.options.annotator_columns:
            return None
        if self.options.column is not None:
            return self.table.column(self.options.column, "noise.column")
        if observed := self.table.find([OBSERVED]):
            return observed[0]
        found = self.table.find(LABEL_COLUMNS)
        if len(found) > 1:
            columns = " and ".join(show(column, quotes=False) for column in found)
            raise UserError(
                f"noise.column: {shown(self.table.path)} has the columns {columns}; set noise.column={found[0]} or another "
                "one to say which of them is the observed label"
            )
        return found[0] if found else None

    def _annotator_column(self) -> str | None:
        return next(iter(self.table.find(ANNOTATOR_COLUMNS)), None)

    def _several(self, annotator: str) -> bool:
        return len(set(self.table.columns[annotator])) > 1 or self.options.annotators is not None

    def _wide_columns(self) -> list[str]:
        if self.options.annotator_columns:
            return [self.table.column(name, "noise.column") for name in self.options.annotator_columns]
        names = [name for name in self.table.columns if plain_column(name) not in ANNOTATOR_COLUMNS]
        wide = [name for name in names if _WIDE.fullmatch(plain_column(name))]
        return wide if len(wide) > 1 else []

    def _location(self, column: str) -> str:
        return f"{self.table.name}: the column {show(column, quotes=False)}"

    def _classes(self, values: Sequence[str], column: str) -> tuple[NDArray[np.int64], tuple[ReadingNote, ...]]:
        return class_indices(
            values,
            self.dataset.class_names,
            self._location(column),
            self.options.unlabeled,
            self.options.integer_labels,
            # Several columns are read one after the other.
            lambda position: self.table.describe_row(position % len(self.table)).rpartition(", ")[2],
        )

    def _single(self, column: str) -> ImportedLabels:
        """Return the labels of one column."""
        check_distinct(self.table, self.match.rows)
        labels, notes = self._classes(self.table.columns[column], column)
        if plain_column(column) != OBSERVED and self.options.column is None:
            notes += (ReadingNote("label_column", f"Labels were read from the column `{column}`", len(labels)),)
        observed, listed = self._by_source_row(labels)
        return ImportedLabels(observed, None, listed, self.match.notes + notes)

    def _by_source_row(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        observed = np.full(self.dataset.source_size, ABSENT, dtype=np.int64)
        known = self.match.rows != NOWHERE
        observed[self.match.rows[known]] = labels[known]
        return observed, self._listed()

    def _listed(self) -> NDArray[np.bool_]:
        listed = np.zeros(self.dataset.source_size, dtype=bool)
        listed[self.match.rows[self.match.rows != NOWHERE]] = True
        return listed

    def _long_votes(self, column: str, annotator: str) -> tuple[Votes, tuple[ReadingNote, ...]]:
        labels, notes = self._classes(self.table.columns[column], column)
        names = [normalize_name(name) for name in self.table.columns[annotator]]
        for row, name in enumerate(names):
            if not name:
                raise UserError(
                    f"{self.table.option}: {self.table.describe_row(row)}: has no annotator; fill in `{annotator}`"
                )
        annotators = sorted(set(names))
        position = {name: number for number, name in enumerate(annotators)}
        numbers = np.array([position[name] for name in names], dtype=np.int64)
        first: dict[tuple[int, int], int] = {}
        for row, pair in enumerate(zip(self.match.rows.tolist(), numbers.tolist(), strict=True)):
            if pair[0] != NOWHERE and pair in first:
                raise UserError(
                    f"{self.table.option}: {self.table.describe_row(row)}: annotator {show(names[row], quotes=False)} labels "
                    f"the same example as in {self.table.describe_row(first[pair]).rpartition(', ')[2]}; keep one of the rows"
                )
            first[pair] = row
        kept = (self.match.rows != NOWHERE) & (labels != UNKNOWN_TARGET)
        return make_votes(annotators, self.match.rows[kept], numbers[kept], labels[kept]), notes

    def _wide_votes(self, columns: Sequence[str]) -> tuple[Votes, tuple[ReadingNote, ...]]:
        check_distinct(self.table, self.match.rows)
        # All columns at once, so that numbers mean the same in each of them.
        values = [value for column in columns for value in self.table.columns[column]]
        labels, notes = self._classes(values, columns[0])
        rows = np.tile(self.match.rows, len(columns))
        numbers = np.repeat(np.arange(len(columns)), len(self.table))
        kept = (rows != NOWHERE) & (labels != UNKNOWN_TARGET)
        return make_votes([name.strip() for name in columns], rows[kept], numbers[kept], labels[kept]), notes

    def _with_votes(self, votes: Votes, notes: tuple[ReadingNote, ...]) -> ImportedLabels:
        return ImportedLabels(None, votes, self._listed(), self.match.notes + notes)

    def _from_matrix(self, matrix: Matrix) -> ImportedLabels:
        """Return the labels of one column for each class: votes, or soft labels."""
        check_distinct(self.table, self.match.rows)
        if matrix.has_counts or self.options.annotators is not None:
            return self._with_votes(matrix.votes(self.match.rows), ())
        labels, notes = matrix.classes(self.options.soft_labels)
        observed, listed = self._by_source_row(labels)
        return ImportedLabels(observed, None, listed, self.match.notes + notes)


def own_labels(dataset: Dataset) -> NDArray[np.int64]:
    """Return the labels of a dataset by source row, `ABSENT` for rows that are in no training or validation split."""
    labels = np.full(dataset.source_size, ABSENT, dtype=np.int64)
    for split in (dataset.train, dataset.validation):
        labels[split.index] = own_targets(split)
    return labels


def own_targets(split: Split) -> Targets:
    """Return the labels that come with the data of a split: noisy ones, if it has them beside its targets."""
    return split.targets if split.noisy_targets is None else split.noisy_targets
