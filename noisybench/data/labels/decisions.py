"""Decisions of people about labels, from the table of an audit: a class, an exclusion or nothing for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.labels.class_labels import IntegerLabels
from noisybench.data.labels.class_names import INTEGER
from noisybench.data.labels.decision_rows import SPLIT, DecisionRows, column_cells, find_decision_rows
from noisybench.data.labels.mask_decisions import DECISION, MASK_DECISIONS, NEW_MASK, UNDECIDED, Decided, resolve_masks
from noisybench.data.labels.rows import NOWHERE, names_of
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
from noisybench.data.targets import UNKNOWN_TARGET, Targets
from noisybench.errors import UserError, nearest, show

NEW_LABEL, LABEL, SUGGESTED = "new_label", "label", "suggested"

DECISIONS = (*RECORDED, UNSURE)
"""Values of the column `decision`; an empty cell is no decision."""

ABSENT = -3
"""Label of an example that no split or no table has."""


def has_decisions(table: LabelTable) -> bool:
    """Return True for a table with a column `decision`, `new_label` or `new_mask`, as audits write them.

    Example:
        >>> from pathlib import Path
        >>> has_decisions(LabelTable(Path("decisions.csv"), {"file": ["a.png"], "New label": ["cat"]}))
        True
    """
    return any(plain_column(name) in (DECISION, NEW_LABEL, NEW_MASK) for name in table.columns)


def read_decisions(
    table: LabelTable,
    dataset: Dataset,
    given: Mapping[str, Targets],
    of_dataset: bool,
    key: str | None = None,
    allow_unknown_files: bool = False,
    integer_labels: IntegerLabels = "auto",
) -> tuple[Verification, tuple[ReadingNote, ...]]:
    """Read the decisions about the labels of a dataset.

    Args:
        table: columns `decision`, `new_label`, or both; `label` with the labels that people saw and `suggested`, if it has
            them; for masks those of `resolve_masks`; and `index`, a column of file names, or a row for each training example
            of the source. The column `split` distinguishes the rows of a test split of the source's own.
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
    columns = (DECISION, NEW_LABEL, NEW_MASK, LABEL, SUGGESTED)
    rows, notes = find_decision_rows(table, dataset, columns, key, allow_unknown_files)
    if dataset.target_kind.dense:
        masks = rows.labels(dataset, given, dataset.target_kind.no_label)
        resolved = resolve_masks(table, masks, rows.split != NOWHERE, dataset.num_classes)
    else:
        resolved = _resolve_classes(table, dataset, rows.labels(dataset, given, ABSENT), integer_labels)
    decided, unsure = resolved.decision != UNDECIDED, resolved.unsure
    notes += _split_notes(table, dataset, rows, decided)
    if not decided.any():
        found = f"has no decision but `{UNSURE}`, which changes nothing" if unsure.any() else "has no decision"
        words, column = (MASK_DECISIONS, NEW_MASK) if dataset.target_kind.dense else (DECISIONS, NEW_LABEL)
        raise UserError(f"{table.name} {found}; fill in `{DECISION}` ({', '.join(words)}) or `{column}`")
    unused = np.flatnonzero(decided & (rows.split == NOWHERE) & (rows.row != NOWHERE))
    text = "Decisions about examples that are in no split have no effect"
    notes += tuple(
        ReadingNote(note.kind, note.text, len(unused), note.names)
        for note in reading_note("unused_decisions", text, names_of(rows.row[unused], dataset.source_names))
    )
    if unsure.any():
        notes += (
            ReadingNote("unsure", "Examples about which the decision is `unsure` keep their labels", int(unsure.sum())),
        )
    verified = {}
    for number, name in enumerate(SPLITS):
        here = np.flatnonzero(decided & (rows.split == number))
        here = here[np.argsort(rows.row[here], kind="stable")]
        if len(here):
            columns_of = (resolved.given, resolved.verified, resolved.decision)
            verified[name] = VerifiedRows(rows.row[here], *(column[here] for column in columns_of))
    if not verified:
        raise UserError(f"{table.name} decides about no example of the dataset's splits")
    return Verification(verified, of_dataset), notes


def _resolve_classes(
    table: LabelTable, dataset: Dataset, given: NDArray[np.int64], integer_labels: IntegerLabels
) -> Decided:
    """Return the class after the decision of each row.

    Args:
        table: the table.
        dataset: the dataset.
        given: (M,) class that the label set has, `ABSENT` for an example of no split.
        integer_labels: meaning of integers.
    """
    names = dataset.class_names
    if integer_labels == "auto" and all(INTEGER.fullmatch(name) for name in names):
        # Audits write names.
        integer_labels = "names"
    cells = {name: column_cells(table, name) for name in (DECISION, NEW_LABEL, LABEL, SUGGESTED)}
    labels = {
        name: _classes(table, values, column, names, integer_labels)
        for name, (column, values) in cells.items()
        if name != DECISION
    }
    _check_given(table, dataset, given, labels[LABEL], cells[LABEL][1])
    seen = np.where(labels[LABEL] == UNKNOWN_TARGET, given, labels[LABEL])
    decision, verified, unsure = _resolve(table, cells, labels, seen)
    return Decided(given, verified, decision, unsure)


def _classes(
    table: LabelTable, values: Sequence[str], column: str, names: Sequence[str], integer_labels: IntegerLabels
) -> NDArray[np.int64]:
    location = f"{table.name}: the column {show(column, quotes=False)}"
    return class_indices(
        values, names, location, (), integer_labels, lambda row: table.describe_row(row).rpartition(", ")[2]
    )[0]


def _split_notes(
    table: LabelTable, dataset: Dataset, rows: DecisionRows, decided: NDArray[np.bool_]
) -> tuple[ReadingNote, ...]:
    """Return a note about decisions on test examples that are no test examples here, or the other way round."""
    if dataset.test_source_size is not None:
        return ()
    cells = column_cells(table, SPLIT)[1]
    test = SPLITS.index("test")
    differing = [
        row
        for row in np.flatnonzero(decided & (rows.split != NOWHERE)).tolist()
        if cells[row] and (split_role(cells[row]) == "test") != (rows.split[row] == test)
    ]
    text = (
        "Decisions name another split than that of their example here, as after an audit with other splits; they are applied "
        "to the example"
    )
    names = tuple(names_of(rows.row[differing], dataset.source_names))
    return (ReadingNote("other_splits", text, len(differing), names),) if differing else ()


def _check_given(
    table: LabelTable, dataset: Dataset, given: NDArray[np.int64], labels: NDArray[np.int64], cells: Sequence[str]
) -> None:
    """Refuse decisions about other labels than those of the label set, which the column `label` shows."""
    differing = np.flatnonzero((labels != UNKNOWN_TARGET) & (given >= 0) & (given != labels))
    if len(differing):
        row = int(differing[0])
        name = show(dataset.class_names[given[row]], quotes=False)
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
