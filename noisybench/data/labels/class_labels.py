"""Class indices from the labels of all splits, matched by name.

    train = read_label_column(table["label"], "dataset.train: the column `label`", names=...)
    test = read_label_column(other["label"], "dataset.test: the column `label`", names=...)
    labels = match_classes({"train": train, "test": test})
    labels.class_names, labels.targets["test"]

Integers are class indices, or the names of classes; where both readings are possible and differ, the user decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import MAX_CLASSES
from noisybench.data.labels.class_names import (
    check_class_names,
    check_single_names,
    normalize_name,
    similar_names,
    sort_names,
)
from noisybench.data.labels.columns import LabelColumn
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, nearest, shorten, show
from noisybench.utils.text import printable

IntegerLabels = Literal["auto", "indices", "names"]
"""Meaning of integers: class indices, names of classes, or the only meaning that is possible."""

MISSING_WORDS = ("nan", "NaN", "None", "<NA>", "NaT", "null", "NULL", "NA", "N/A", "n/a", "#N/A")
"""Text that tools write for missing values, such as R and spreadsheets."""

COMMON_UNLABELED = (-1, 255, 65535)
"""Numbers that often stand for no label."""

MAX_LISTED = 10
"""Largest number of classes that a message lists."""


@dataclass(frozen=True)
class ClassLabels:
    """Class indices of all splits.

    Attributes:
        targets: (N,) int64 class indices of each split; `UNKNOWN_TARGET` for examples without a label.
        class_names: names of the classes in the order of their indices.
        notes: conversions, and examples without a label.
    """

    targets: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
    notes: tuple[ReadingNote, ...]


def match_classes(
    columns: Mapping[str, LabelColumn],
    class_names: Sequence[str] | None = None,
    allow_empty_classes: bool = False,
    integer_labels: IntegerLabels = "auto",
    unlabeled: str | int | None = None,
) -> ClassLabels:
    """Return the class indices of all splits, with the same index for the same name.

    Args:
        columns: labels of each split; ``train`` is required, and decides the classes together with ``validation``.
        class_names: names of the classes in the order of their indices, if the user gives them.
        allow_empty_classes: keep classes without training examples.
        integer_labels: meaning of integers. As ``names``, each different integer is a class, in the order of numbers.
        unlabeled: declared label of examples without a class, to check that it occurs.

    Raises:
        UserError: a label stands for no class, has two meanings, or occurs in no training example; a class is empty;
            there is only one; or a test example has no label.

    Examples:
        >>> from noisybench.data.labels.columns import read_label_column
        >>> train = read_label_column(np.array([0, 1]), "train labels", names=["cat", "dog"])
        >>> test = read_label_column(np.array([0, 0, 1]), "test labels", names=["dog", "cat"])
        >>> match_classes({"train": train, "test": test}).targets["test"]
        array([1, 1, 0])
        >>> column = read_label_column(np.array([1, 2, 3, 1]), "labels")
        >>> match_classes({"train": column})
        Traceback (most recent call last):
        noisybench.errors.UserError: labels has no example of class 0, but of the classes 1, 2, 3; set ...
        >>> match_classes({"train": column}, integer_labels="names").class_names
        ('1', '2', '3')
    """
    train = columns["train"]
    if unlabeled is not None and not any(column.has_unlabeled_value for column in columns.values()):
        raise UserError(
            f"dataset.unlabeled: no label of {train.location} is {show(str(unlabeled), quotes=False)}; "
            f"{nearest(str(unlabeled), train.used[:1000])}"
        )
    for split, column in columns.items():
        if not len(column.codes):
            name = "training" if split == "train" else split
            raise UserError(f"{column.location}: the {name} split has no examples; provide some, or leave it out")
    names = _class_names(columns, class_names, integer_labels)
    check_class_names(names, "dataset.class_names" if class_names else train.location)
    notes = [note for column in columns.values() for note in column.notes]
    targets = {}
    for split, column in columns.items():
        _check_order(split, column, train, names, bool(class_names), integer_labels)
        targets[split], note = match_labels(column, names, integer_labels, declared=bool(class_names))
        notes += note
    _check_train_classes(columns, targets, names, allow_empty_classes, declared=bool(class_names))
    for split, column in columns.items():
        notes += _unlabeled_notes(split, column)
    return ClassLabels(targets, names, tuple(notes) + similar_names(names, train.location))


def match_labels(
    column: LabelColumn,
    class_names: Sequence[str],
    integer_labels: IntegerLabels = "auto",
    declared: bool = False,
    location: str = "dataset",
) -> tuple[NDArray[np.int64], list[ReadingNote]]:
    """Return the class indices of one column for given classes, such as those of a dataset whose labels it replaces.

    Args:
        column: the labels.
        class_names: names of the classes in the order of their indices.
        integer_labels: meaning of integers.
        declared: the user has given ``class_names``, which then rename the classes that a file names.
        location: location of the parameter ``integer_labels``, for messages.

    Returns:
        (N,) class indices, `UNKNOWN_TARGET` for examples without a label, and the conversions.

    Raises:
        UserError: a label is none of the classes, or an integer is the name of one class and the index of another.

    Examples:
        >>> from noisybench.data.labels.columns import read_label_column
        >>> column = read_label_column(["dog", None, "cat"], "labels.csv: the column `observed`")
        >>> match_labels(column, ("cat", "dog"))
        (array([ 1, -2,  0]), [])
        >>> match_labels(read_label_column([10, 2], "labels.csv"), ("1", "2", "10"))[0]
        array([2, 1])
    """
    index = {name: number for number, name in enumerate(class_names)}
    if column.width is not None and column.width != len(class_names):
        raise UserError(
            f"{column.location} has {column.width} columns, but there are {len(class_names)} classes; name one class for "
            "each column"
        )
    by_name = {value: index[value] for value in column.used if value in index}
    unknown = [value for value in column.used if value not in index]
    if column.kind == "named":
        renamed = declared and len(column.values) == len(class_names) and not set(column.values) & set(class_names)
        # Other names for all classes of the file, in its order.
        table = {value: number for number, value in enumerate(column.values)} if renamed else by_name
        if unknown and not renamed:
            raise _unknown_label(column, unknown, class_names)
        return _apply(column, table), []
    by_index = {value: int(value) for value in column.used if value.lstrip("-").isdigit()}
    by_index = {
        value: number for value, number in by_index.items() if str(number) == value and number in range(len(index))
    }
    if column.kind == "text":
        if not unknown:
            return _apply(column, by_name), []
        if not by_name and len(by_index) == len(column.used):
            text = f"{column.location}: labels are numbers, and were read as class indices"
            return _apply(column, by_index), [ReadingNote("labels_as_indices", text, int((column.codes >= 0).sum()))]
        raise _unknown_label(column, unknown, class_names)
    complete = len(by_index) == len(column.used)
    if column.width is None and (
        integer_labels == "names" or (integer_labels == "auto" and not unknown and not complete)
    ):
        if unknown:
            raise _unknown_label(column, unknown, class_names)
        return _apply(column, by_name), []
    if not complete:
        raise _outside_classes(column, [value for value in column.used if value not in by_index], class_names)
    different = [value for value in column.used if by_name.get(value, by_index[value]) != by_index[value]]
    # Columns of one-hot labels have no names of their own.
    if integer_labels == "auto" and column.width is None and not unknown and different:
        value = different[0]
        raise UserError(
            f"{column.location}: the label {value} is the name of class {by_name[value]} and the index of class "
            f"{show(class_names[by_index[value]], quotes=False)}; set {location}.integer_labels=names or "
            f"{location}.integer_labels=indices"
        )
    return _apply(column, by_index), []


def _class_names(
    columns: Mapping[str, LabelColumn], declared: Sequence[str] | None, integer_labels: IntegerLabels
) -> tuple[str, ...]:
    """Return the names of the classes, which the user, the file or the training labels decide."""
    train = columns["train"]
    if declared:
        return tuple(normalize_name(name) for name in declared)
    if train.kind == "named":
        return train.values
    used = set(train.used)
    if train.kind == "text":
        for value in train.used:
            if value in MISSING_WORDS:
                raise UserError(
                    f"{train.location}: the label {show(value)} may stand for a missing value (entry {train.first_row(value)}); "
                    f"set dataset.unlabeled={value}, or list all classes in dataset.class_names if it is one"
                )
        check_single_names(train.used, train.location)
        return train.used
    if integer_labels == "names":
        return tuple(sort_names(list(used)))
    if not used:
        return tuple(str(column) for column in range(train.width or 0))
    highest = 0
    # Other splits count as well, so that a class that training does not have is refused by its name.
    for column in columns.values():
        numbers = [int(value) for value in column.used] if column.kind == "integers" else []
        outside = [str(number) for number in numbers if not 0 <= number < MAX_CLASSES]
        if outside:
            raise _outside_classes(column, outside, [])
        highest = max([highest, *numbers])
    return tuple(str(number) for number in range(train.width or highest + 1))


def _check_order(
    split: str,
    column: LabelColumn,
    train: LabelColumn,
    names: tuple[str, ...],
    declared: bool,
    integer_labels: IntegerLabels,
) -> None:
    """Refuse integers in one split if training has names of which nothing declares the order."""
    indices = column.kind == "integers" and not set(column.used) <= set(names)
    if train.kind == "text" and indices and not declared and integer_labels == "auto":
        raise UserError(
            f"{column.location}: the {split} labels are integers, but those of training are names such as "
            f"{show(names[0], quotes=False)}; set dataset.class_names to the names in the order of the integers"
        )


def _check_train_classes(
    columns: Mapping[str, LabelColumn],
    targets: Mapping[str, NDArray[np.int64]],
    names: tuple[str, ...],
    allow_empty_classes: bool,
    declared: bool,
) -> None:
    """Refuse splits with classes that training does not have, a single class, and classes without examples."""
    train = columns["train"]
    used = {split: set(np.unique(rows[rows >= 0]).tolist()) for split, rows in targets.items()}
    if not used["train"]:
        raise UserError(f"{train.location}: no training example has a label")
    if len(used["train"]) == 1:
        name = show(names[next(iter(used["train"]))], quotes=False)
        raise UserError(f"{train.location} has the one class {name}, but at least two are needed")
    for split, present in used.items():
        unseen = sorted(present - used["train"])
        if unseen:
            raise UserError(
                f"{columns[split].location}: the {split} split has the class{'es' if len(unseen) > 1 else ''} "
                f"{_counted(unseen, targets[split], names)}, which the training split does not have; remove these examples, or "
                "correct the labels"
            )
    empty = [number for number in range(len(names)) if number not in used["train"]]
    if empty and not allow_empty_classes:
        if train.kind == "integers" and not declared and train.width is None:
            raise _gaps(train, list(train.used))
        raise UserError(
            f"{train.location} has no example of the class{'es' if len(empty) > 1 else ''} "
            f"{_listed([names[number] for number in empty])}; set dataset.allow_empty_classes=true to keep "
            f"{'them' if len(empty) > 1 else 'it'}, or list only the others in dataset.class_names"
        )


def _gaps(column: LabelColumn, used: list[str]) -> UserError:
    """Return an error about integers that do not count from 0 without gaps."""
    present = {int(value) for value in used}
    first = next(number for number in range(max(present) + 1) if number not in present)
    suspicious = max(present)
    hint = ""
    if suspicious in COMMON_UNLABELED:
        hint = f"; if {suspicious} means no label, set dataset.unlabeled={suspicious}"
    return UserError(
        f"{column.location} has no example of class {first}, but of the classes {_listed(used, quotes=False)}; set "
        "dataset.integer_labels=names to make each of these numbers a class, or dataset.allow_empty_classes=true to count "
        f"from 0 with empty classes{hint}"
    )


def _outside_classes(column: LabelColumn, values: Sequence[str], class_names: Sequence[str]) -> UserError:
    value = values[0]
    hint = f"; if it means no label, set dataset.unlabeled={value}" if int(value) in COMMON_UNLABELED else ""
    allowed = f"0 to {len(class_names) - 1}, the indices of {len(class_names)} classes" if class_names else "from 0 on"
    return UserError(
        f"{column.location} must be class indices, {allowed}, but entry {column.first_row(value)} is {value}{hint}"
        f"{'' if class_names else '; set dataset.integer_labels=names to make each number a class'}"
    )


def _unknown_label(column: LabelColumn, unknown: Sequence[str], class_names: Sequence[str]) -> UserError:
    value = unknown[0]
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    hint = "; if it means no label, declare it as the value for unlabeled examples" if value in MISSING_WORDS else ""
    return UserError(
        f"{column.location}: the label {show(value, quotes=False)} of entry {column.first_row(value)}{more} is none of the "
        f"{len(class_names)} classes; {nearest(value, map(printable, class_names))}{hint}"
    )


def _apply(column: LabelColumn, table: Mapping[str, int]) -> NDArray[np.int64]:
    # One more entry than values: code -1 of an example without a label is the last one.
    numbers = np.array([*(table.get(value, UNKNOWN_TARGET) for value in column.values), UNKNOWN_TARGET], dtype=np.int64)
    return numbers[column.codes]


def _unlabeled_notes(split: str, column: LabelColumn) -> list[ReadingNote]:
    rows = np.flatnonzero(column.codes < 0)
    if not len(rows):
        return []
    if split not in ("train", "validation"):
        raise UserError(
            f"{column.location}: {len(rows)} of {len(column.codes)} examples have no label, the first in entry {rows[0]}; "
            "remove them from the test split, or use another one"
        )
    return [ReadingNote("unlabeled", f"{column.location}: examples without a label were left out", len(rows))]


def _counted(classes: Sequence[int], targets: NDArray[np.int64], names: Sequence[str]) -> str:
    """Return the names of the first classes with their numbers of examples."""
    counts = [int((targets == number).sum()) for number in classes[:MAX_LISTED]]
    shown = [
        f"{show(names[number], quotes=False)} ({count} example{'s' if count != 1 else ''})"
        for number, count in zip(classes, counts, strict=False)
    ]
    return ", ".join(shown) + (" …" if len(classes) > MAX_LISTED else "")


def _listed(names: Sequence[str], quotes: bool = True) -> str:
    shown = [show(name, quotes=False) if quotes else shorten(name, 30) for name in names[:MAX_LISTED]]
    return ", ".join(shown) + (f" … ({len(names)} in all)" if len(names) > MAX_LISTED else "")
