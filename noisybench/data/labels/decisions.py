"""Decisions of people about labels, from the table of an audit: a class, an exclusion or nothing for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.labels.class_labels import IntegerLabels
from noisybench.data.labels.class_names import INTEGER
from noisybench.data.labels.rows import FILE_COLUMNS, NOWHERE, check_distinct, match_rows, names_of, split_path
from noisybench.data.labels.tables import LabelTable, plain_column
from noisybench.data.labels.values import class_indices
from noisybench.data.labels.verification import (
    ACCEPT,
    KEEP,
    RECORDED,
    RELABEL,
    SPLITS,
    UNSURE,
    Verification,
    VerifiedRows,
)
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import split_role
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, nearest, show

DECISION, NEW_LABEL, LABEL, SUGGESTED, SPLIT = "decision", "new_label", "label", "suggested", "split"

DECISIONS = (*RECORDED, UNSURE)
"""Values of the column `decision`; an empty cell is no decision."""

ABSENT = -3
"""Label of an example that no split or no table has."""

UNDECIDED = -1
"""Position of rows without a decision, and of those that change nothing."""


def has_decisions(table: LabelTable) -> bool:
    """Return True for a table with a column `decision` or `new_label`, as audits write them.

    Example:
        >>> from pathlib import Path
        >>> has_decisions(LabelTable(Path("decisions.csv"), {"file": ["a.png"], "New label": ["cat"]}))
        True
    """
    return any(plain_column(name) in (DECISION, NEW_LABEL) for name in table.columns)


@dataclass(frozen=True)
class _Place:
    """Examples of the rows of a table.

    Attributes:
        split: (M,) position in `SPLITS`; `NOWHERE` for an example of no split.
        row: (M,) row in the source of the split.
        given: (M,) class that the label set has there; `ABSENT` for an example of no split.
    """

    split: NDArray[np.int64]
    row: NDArray[np.int64]
    given: NDArray[np.int64]


def read_decisions(
    table: LabelTable,
    dataset: Dataset,
    given: Mapping[str, NDArray[np.int64]],
    of_dataset: bool,
    key: str | None = None,
    allow_unknown_files: bool = False,
    integer_labels: IntegerLabels = "auto",
) -> tuple[Verification, tuple[ReadingNote, ...]]:
    """Read the decisions about the labels of a dataset.

    Args:
        table: columns `decision`, `new_label`, or both; `label` with the labels that people saw and `suggested`, if it has
            them; and `index`, a column of file names, or a row for each training example of the source. The column
            `split` distinguishes the rows of a test split of the source's own.
        dataset: the dataset.
        given: observed labels of its splits.
        of_dataset: the labels are the dataset's own, see `Verification`.
        key: column with rows or file names.
        allow_unknown_files: leave rows of unknown files out.
        integer_labels: meaning of integers.

    Raises:
        UserError: a row belongs to no example or to another one's label, or a decision is unknown or contradicts itself.

    Example:
        >>> from pathlib import Path
        >>> from noisybench.data.dataset import Split
        >>> def split(*rows):
        ...     return Split(np.zeros((len(rows), 1, 8, 8), np.uint8), targets=np.array(rows) % 2, index=np.array(rows))
        >>> dataset = Dataset("toy", split(0, 1), split(2, 3), split(4, 5), ("cat", "dog"), 6)
        >>> table = LabelTable(Path("decisions.csv"), {"index": ["1"], "label": ["dog"], "new_label": ["cat"]})
        >>> verification, _ = read_decisions(table, dataset, {"train": dataset.train.targets}, of_dataset=True)
        >>> verification.rows["train"].verified
        array([0])
    """
    names = dataset.class_names
    if integer_labels == "auto" and all(INTEGER.fullmatch(name) for name in names):
        # Audits write names.
        integer_labels = "names"
    _check_splits(table, dataset)
    place, notes = _places(table, dataset, given, key, allow_unknown_files)
    cells = {name: _cells(table, name) for name in (DECISION, NEW_LABEL, LABEL, SUGGESTED)}
    labels = {
        name: _classes(table, values, column, names, integer_labels)
        for name, (column, values) in cells.items()
        if name != DECISION
    }
    _check_given(table, dataset, place, labels[LABEL], cells[LABEL][1])
    given_labels = np.where(labels[LABEL] == UNKNOWN_TARGET, place.given, labels[LABEL])
    decision, verified, unsure = _resolve(table, cells, labels, given_labels)
    decided = decision != UNDECIDED
    notes += _split_notes(table, dataset, place, decided)
    if not decided.any():
        found = f"has no decision but `{UNSURE}`, which changes nothing" if unsure.any() else "has no decision"
        raise UserError(f"{table.name} {found}; fill in `{DECISION}` ({', '.join(DECISIONS)}) or `{NEW_LABEL}`")
    unused = np.flatnonzero(decided & (place.split == NOWHERE) & (place.row != NOWHERE))
    text = "Decisions about examples that are in no split have no effect"
    notes += tuple(
        ReadingNote(note.kind, note.text, len(unused), note.names)
        for note in reading_note("unused_decisions", text, names_of(place.row[unused], dataset.source_names))
    )
    if unsure.any():
        notes += (
            ReadingNote("unsure", "Examples about which the decision is `unsure` keep their labels", int(unsure.sum())),
        )
    rows = {}
    for number, name in enumerate(SPLITS):
        here = np.flatnonzero(decided & (place.split == number))
        here = here[np.argsort(place.row[here], kind="stable")]
        if len(here):
            rows[name] = VerifiedRows(place.row[here], place.given[here], verified[here], decision[here])
    if not rows:
        raise UserError(f"{table.name} decides about no example of the dataset's splits")
    return Verification(rows, of_dataset), notes


def _cells(table: LabelTable, name: str) -> tuple[str, Sequence[str]]:
    """Return the column with a name and its cells; empty cells if there is none."""
    column = next(iter(table.find([name])), None)
    return (name, [""] * len(table)) if column is None else (column, table.columns[column])


def _classes(
    table: LabelTable, values: Sequence[str], column: str, names: Sequence[str], integer_labels: IntegerLabels
) -> NDArray[np.int64]:
    location = f"{table.name}: the column {show(column, quotes=False)}"
    return class_indices(
        values, names, location, (), integer_labels, lambda row: table.describe_row(row).rpartition(", ")[2]
    )[0]


def _places(
    table: LabelTable,
    dataset: Dataset,
    given: Mapping[str, NDArray[np.int64]],
    key: str | None,
    allow_unknown_files: bool,
) -> tuple[_Place, tuple[ReadingNote, ...]]:
    """Return the example of each row; rows of a test split of the source's own are counted in that split."""
    size = len(table)
    is_own_test = np.zeros(size, dtype=bool)
    if dataset.test_source_size is not None:
        splits = _cells(table, SPLIT)[1]
        is_own_test = np.array([split_role(cell) == "test" for cell in splits], dtype=bool)
    rows, notes = np.full(size, NOWHERE, dtype=np.int64), tuple[ReadingNote, ...]()
    label_columns = {name for name in table.columns if plain_column(name) in (DECISION, NEW_LABEL, LABEL, SUGGESTED)}
    parts = (
        (~is_own_test, dataset.source_size, dataset.source_names),
        (is_own_test, dataset.test_source_size or 0, dataset.test_names),
    )
    for mask, source_size, names in parts:
        if mask.any() or (mask is parts[0][0] and not size):
            part = table if mask.all() else _take(table, np.flatnonzero(mask))
            match = match_rows(part, source_size, names, key, allow_unknown_files, label_columns=label_columns)
            check_distinct(part, match.rows)
            rows[mask] = match.rows
            notes += match.notes
    split, labels = np.full(size, NOWHERE, dtype=np.int64), np.full(size, ABSENT, dtype=np.int64)
    for number, name in enumerate(SPLITS):
        own = name == "test" and dataset.test_source_size is not None
        source_size = dataset.test_source_size if own and dataset.test_source_size else dataset.source_size
        of_row = np.full(source_size, ABSENT, dtype=np.int64)
        of_row[getattr(dataset, name).index] = given.get(name, getattr(dataset, name).targets)
        here = np.flatnonzero((is_own_test if own else ~is_own_test) & (rows != NOWHERE))
        here = here[of_row[rows[here]] != ABSENT]
        split[here], labels[here] = number, of_row[rows[here]]
    return _Place(split, rows, labels), notes


def _check_splits(table: LabelTable, dataset: Dataset) -> None:
    """Refuse cells of the column `split` that name no split, or another one than the folder of the file.

    Training and validation examples may be divided in another way than by the audit. Only a test split of the source's own
    has examples of its own, so that a file in it cannot be one of training.
    """
    column, cells = _cells(table, SPLIT)
    files = next((table.columns[name] for name in table.find(FILE_COLUMNS)), None)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        role = split_role(cell)
        if role is None:
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: unknown {column} {show(cell, quotes=False)}; "
                f"{nearest(cell, SPLITS)}"
            )
        if dataset.test_source_size is None or files is None:
            continue
        folders = {split_role(folder) for folder in split_path(files[row])[:-1]} - {None}
        if folders and (role == "test") is not ("test" in folders):
            raise UserError(
                f"{table.option}: {table.describe_row(row)}: the {column} is {cell}, but the file "
                f"{show(files[row], quotes=False)} is one of {' and '.join(sorted(map(str, folders)))}, which the source keeps "
                "apart; correct one of them"
            )


def _split_notes(
    table: LabelTable, dataset: Dataset, place: _Place, decided: NDArray[np.bool_]
) -> tuple[ReadingNote, ...]:
    """Return a note about decisions on test examples that are no test examples here, or the other way round."""
    if dataset.test_source_size is not None:
        return ()
    cells = _cells(table, SPLIT)[1]
    test = SPLITS.index("test")
    differing = [
        row
        for row in np.flatnonzero(decided & (place.split != NOWHERE)).tolist()
        if cells[row] and (split_role(cells[row]) == "test") != (place.split[row] == test)
    ]
    text = (
        "Decisions name another split than that of their example here, as after an audit with other splits; they are applied "
        "to the example"
    )
    names = tuple(names_of(place.row[differing], dataset.source_names))
    return (ReadingNote("other_splits", text, len(differing), names),) if differing else ()


def _take(table: LabelTable, rows: NDArray[np.int64]) -> LabelTable:
    """Return some rows of a table."""
    columns = {name: [cells[row] for row in rows.tolist()] for name, cells in table.columns.items()}
    lines = tuple(table.lines[row] for row in rows.tolist()) if table.lines else ()
    return LabelTable(table.path, columns, lines, table.option)


def _check_given(
    table: LabelTable, dataset: Dataset, place: _Place, labels: NDArray[np.int64], cells: Sequence[str]
) -> None:
    """Refuse decisions about other labels than those of the label set, which the column `label` shows."""
    differing = np.flatnonzero((labels != UNKNOWN_TARGET) & (place.given >= 0) & (place.given != labels))
    if len(differing):
        row = int(differing[0])
        name = show(dataset.class_names[place.given[row]], quotes=False)
        raise UserError(
            f"{table.option}: {table.describe_row(row)}: decides about the label {show(cells[row], quotes=False)}, but the "
            f"dataset has {name} ({len(differing)} of {len(table)} rows differ); it belongs to an audit of other labels: "
            "give the noise of that audit, such as noise=from_file noise.path=FOLDER for a label set"
        )


def _resolve(
    table: LabelTable,
    cells: Mapping[str, tuple[str, Sequence[str]]],
    labels: Mapping[str, NDArray[np.int64]],
    given: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the decision and the class of each row, and a mask of those about which people were unsure.

    Returns:
        (M,) positions in `RECORDED` or `UNDECIDED`, (M,) classes with `UNKNOWN_TARGET` for excluded examples, and an (M,) mask.
    """
    size = len(table)
    decision, unsure = np.full(size, UNDECIDED, dtype=np.int64), np.zeros(size, dtype=bool)
    verified = np.full(size, UNKNOWN_TARGET, dtype=np.int64)
    problems: list[tuple[int, str]] = []
    for row in range(size):
        word, new, suggested = (
            cells[DECISION][1][row].casefold(),
            int(labels[NEW_LABEL][row]),
            int(labels[SUGGESTED][row]),
        )
        if not word and new != UNKNOWN_TARGET:
            # A person who fills in the class alone has decided as well.
            word = KEEP if new == given[row] else ACCEPT if new == suggested else RELABEL
        if not word:
            continue
        problem, label = _decide(word, new, int(given[row]), suggested)
        if problem:
            problems.append((row, f"{problem} ({_values(cells, row)})"))
        elif word == UNSURE:
            unsure[row] = True
        else:
            decision[row], verified[row] = RECORDED.index(word), label
    if problems:
        row, problem = problems[0]
        more = f" ({len(problems) - 1} more rows likewise)" if len(problems) > 1 else ""
        raise UserError(f"{table.option}: {table.describe_row(row)}: {problem}{more}")
    return decision, verified, unsure


def _decide(word: str, new: int, given: int, suggested: int) -> tuple[str, int]:
    """Return the problem of a decision, or empty text and the class that it verifies."""
    if word not in DECISIONS:
        return f"unknown decision {show(word, quotes=False)}; {nearest(word, DECISIONS)}", UNKNOWN_TARGET
    if word == ACCEPT:
        label = suggested if new == UNKNOWN_TARGET else new
        if UNKNOWN_TARGET not in (new, suggested) and new != suggested:
            return f"accepts the suggestion, but `{NEW_LABEL}` is another class; write {RELABEL} or correct it", label
        return ("" if label >= 0 else f"accepts a suggestion, but has none; fill in `{NEW_LABEL}`"), label
    if word == RELABEL:
        if new == UNKNOWN_TARGET:
            return f"relabels, but has no class; fill in `{NEW_LABEL}`", new
        return (f"relabels to the class that the example has; write {KEEP}" if new == given else ""), new
    if word == KEEP:
        if new not in (UNKNOWN_TARGET, given):
            return f"keeps the label, but `{NEW_LABEL}` is another class; write {RELABEL} or leave it empty", new
        return ("" if given >= 0 else "keeps a label, but the example has none; write relabel"), given
    return (
        f"has the decision {word}, but also a `{NEW_LABEL}`; leave one of them empty" if new >= 0 else ""
    ), UNKNOWN_TARGET


def _values(cells: Mapping[str, tuple[str, Sequence[str]]], row: int) -> str:
    """Return the cells that decide, for messages."""
    return ", ".join(f"{name}: {show(values[row], quotes=False)}" for name, (_, values) in cells.items() if values[row])
