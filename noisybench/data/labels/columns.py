"""Columns of labels as files hold them: text, integers, truth values, one-hot rows, and missing labels.

A column keeps each label under its own name. The numbers that training uses are decided later, by name and for all
splits together; see `noisybench.data.labels.class_labels`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import MAX_CLASSES, exact_integers
from noisybench.data.labels.class_names import INTEGER, normalize_name, sort_names
from noisybench.data.labels.types import plain_labels
from noisybench.data.notes import ReadingNote
from noisybench.errors import UserError, show

NO_LABEL = -1
"""Code of an example without a label."""

SoftLabels = Literal["refuse", "argmax"]
"""Treatment of class probabilities: refuse them, or take the most probable class."""

SUM_TOLERANCE = 1e-3
"""Largest difference of a sum of probabilities from 1."""

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class LabelColumn:
    """Labels of the examples of one split under the names that the file gives them.

    Attributes:
        location: name of the column for messages.
        kind: ``text``; ``integers``, whose meaning the class names decide; or ``named``, integers or truth values for
            which the file itself has names.
        values: labels as text: the distinct ones, integers sorted as numbers; of a ``named`` column all names of the file
            in their order.
        codes: (N,) int64 positions in ``values``; `NO_LABEL` for examples without a label.
        width: number of columns of one-hot or soft labels; None for plain labels.
        has_unlabeled_value: True if the declared value for no label occurs.
        notes: conversions.
    """

    location: str
    kind: Literal["text", "integers", "named"]
    values: tuple[str, ...]
    codes: NDArray[np.int64]
    width: int | None = None
    has_unlabeled_value: bool = False
    notes: tuple[ReadingNote, ...] = ()

    @functools.cached_property
    def used(self) -> tuple[str, ...]:
        """Labels that occur, in their order."""
        present = np.unique(self.codes[self.codes >= 0])
        return tuple(self.values[code] for code in present)

    def first_row(self, value: str) -> int:
        """Return the first row that has a label."""
        return int(np.flatnonzero(self.codes == self.values.index(value))[0])


def read_label_column(
    values: Any,
    location: str,
    names: Sequence[str] | None = None,
    unlabeled: str | int | None = None,
    soft_labels: SoftLabels = "refuse",
) -> LabelColumn:
    """Read a column of labels without deciding by a cast what they mean.

    Args:
        values: a NumPy array of shape (N,), (N, 1), or (N, C) with one-hot or soft rows; a list; a column of pandas or
            pyarrow, nullable and dictionary-encoded ones included.
        location: name of the column for messages, such as ``"dataset.path: images.npz: labels"``.
        names: class names that the file gives for the integers, such as those of the feature ``ClassLabel``.
        unlabeled: label of examples without a class; None, empty text and missing values of pandas and pyarrow always mean
            this.
        soft_labels: treatment of rows of class probabilities.

    Raises:
        UserError: a label is a fraction, the rows have several labels, or the type is none of these.

    Examples:
        >>> column = read_label_column(np.array(["10", "9", "", "9"]), "labels")
        >>> column.values, column.codes.tolist()
        (('9', '10'), [1, 0, -1, 0])
        >>> read_label_column(np.array([0, 0.99999994]), "labels")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels must be integers, but entry 1 is 0.99999994
    """
    array, missing = plain_labels(values, location)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1:
        return _read_rows(array, missing, location, soft_labels)
    if array.ndim != 1:
        raise UserError(f"{location} must have the shape (N,), one label for each example, but has {array.shape}")
    if array.dtype.kind in "US":
        return _read_text(array, missing, location, names, unlabeled)
    if array.dtype.kind == "b":
        array, names = array.astype(np.int64), names or ("False", "True")
    elif array.dtype.kind not in "iuf":
        kinds = {"c": "complex numbers", "M": "dates", "m": "durations", "V": "records"}
        described = kinds.get(array.dtype.kind, str(array.dtype))
        raise UserError(
            f"{location} must be class names or whole numbers, but are {described}; "
            "convert them, or name the array or column that contains the labels"
        )
    return _read_numbers(array, missing, location, names, unlabeled)


def _read_text(
    array: NDArray[Any],
    missing: NDArray[np.bool_],
    location: str,
    names: Sequence[str] | None,
    unlabeled: str | int | None,
) -> LabelColumn:
    raw, inverse = np.unique(array, return_inverse=True)
    texts = [_decode(value, location, array) for value in raw.tolist()]
    normalized = [normalize_name(text) for text in texts]
    notes = []
    stripped = np.array([text != text.strip() for text in texts], dtype=bool)
    changed = stripped[inverse] & ~missing if len(texts) else missing
    if changed.any():
        notes.append(ReadingNote("label_blanks", f"{location}: blanks around labels were removed", int(changed.sum())))
    no_label = {"", *([] if unlabeled is None else [normalize_name(str(unlabeled))])}
    present = sorted({text for text in normalized if text not in no_label})
    if present and all(_DECIMAL.fullmatch(text) for text in present) and not names:
        written = [text for text in present if not INTEGER.fullmatch(text)]
        fractions = [text for text in written if float(text) % 1 or abs(float(text)) > 2**53]
        if fractions:
            row = int(np.flatnonzero(inverse == normalized.index(fractions[0]))[0])
            raise UserError(
                f"{location} must be class names or whole numbers, but entry {row} is {show(fractions[0])}; write the "
                "name of the class"
            )
        if written:
            # A column of numbers that passed through floating point: 1.0 is the number 1.
            rewritten = {text: str(int(float(text))) for text in written}
            text = f"{location}: labels such as {written[0]} were read as whole numbers, {rewritten[written[0]]}"
            rows = np.isin(np.array(normalized)[inverse], written)
            notes.append(ReadingNote("decimal_labels", text, int(rows.sum())))
            normalized = [rewritten.get(text, text) for text in normalized]
            present = sorted({rewritten.get(text, text) for text in present})
    _check_count(len(present), location)
    ordered = tuple(sort_names(present))
    if names:
        ordered = tuple(normalize_name(name) for name in names)
        unknown = [text for text in present if text not in ordered]
        if unknown:
            raise UserError(
                f"{location}: the label {show(unknown[0])} is not among the {len(ordered)} class names of the file"
            )
    position = {name: code for code, name in enumerate(ordered)}
    table = np.array([position.get(text, NO_LABEL) for text in normalized], dtype=np.int64)
    codes = np.where(missing, NO_LABEL, table[inverse]) if len(table) else np.empty(0, np.int64)
    declared = unlabeled is not None and normalize_name(str(unlabeled)) in normalized
    kind: Literal["text", "named"] = "named" if names else "text"
    return LabelColumn(location, kind, ordered, codes, has_unlabeled_value=declared, notes=tuple(notes))


def _decode(value: str | bytes, location: str, array: NDArray[Any]) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        row = int(np.flatnonzero(array == value)[0])
        raise UserError(f"{location}: entry {row} is {show(value)}, which is not text in UTF-8; convert it") from None


def _read_numbers(
    array: NDArray[Any],
    missing: NDArray[np.bool_],
    location: str,
    names: Sequence[str] | None,
    unlabeled: str | int | None,
) -> LabelColumn:
    not_numbers = np.zeros(len(array), dtype=bool)
    if array.dtype.kind == "f":
        not_numbers = ~missing & np.isnan(array)
        # A calculation can fail with NaN, so that it means no label only if the user says so.
        if not_numbers.any() and str(unlabeled).lower() != "nan":
            raise UserError(
                f"{location} must be integers, but entry {np.flatnonzero(not_numbers)[0]} is nan ({not_numbers.sum()} in all); "
                "if it means no label, set dataset.unlabeled=nan"
            )
        missing = missing | not_numbers
        _check_fractions(array[~missing], location)
    integers = exact_integers(np.where(missing, array.dtype.type(0), array) if missing.any() else array, location)
    none = _unlabeled_number(unlabeled)
    declared = np.zeros(len(integers), dtype=bool) if none is None else ~missing & (integers == none)
    if names and unlabeled is not None and normalize_name(str(unlabeled)) in names:
        declared |= ~missing & (integers == list(names).index(normalize_name(str(unlabeled))))
    missing = missing | declared
    distinct = np.unique(integers[~missing])
    _check_count(len(distinct), location)
    has_value = bool((declared | not_numbers).any())
    if not names:
        codes = np.where(missing, NO_LABEL, np.searchsorted(distinct, integers))
        return LabelColumn(
            location, "integers", tuple(map(str, distinct.tolist())), codes, has_unlabeled_value=has_value
        )
    outside = distinct[(distinct < 0) | (distinct >= len(names))]
    if len(outside):
        hint = f"; if it means no label, set dataset.unlabeled={outside[0]}" if outside[0] in (-1, 255) else ""
        row = int(np.flatnonzero(~missing & (integers == outside[0]))[0])
        raise UserError(
            f"{location}: entry {row} is {outside[0]}, but the file names {len(names)} classes, 0 to {len(names) - 1}{hint}"
        )
    normalized = tuple(normalize_name(name) for name in names)
    codes = np.where(missing, NO_LABEL, integers)
    return LabelColumn(location, "named", normalized, codes, has_unlabeled_value=has_value)


def _check_fractions(values: NDArray[Any], location: str) -> None:
    """Refuse numbers from 0 to 1, which are probabilities or scores rather than classes, with a message of their own."""
    if len(values) and values.min() >= 0 and values.max() <= 1 and (values % 1 != 0).sum() > len(values) / 2:
        value = values[values % 1 != 0][0]
        raise UserError(
            f"{location} must be integers, but are fractions such as {value}, probably scores; give one class for each "
            "example, or one column of probabilities for each class"
        )


def _unlabeled_number(unlabeled: str | int | None) -> int | None:
    try:
        return None if unlabeled is None else int(unlabeled)
    except ValueError:
        return None


def _check_count(count: int, location: str) -> None:
    if count > MAX_CLASSES:
        raise UserError(
            f"{location} has {count:,} different values, but at most {MAX_CLASSES:,} classes are possible; name the array or "
            "column that contains the labels"
        )


def _read_rows(array: NDArray[Any], missing: NDArray[np.bool_], location: str, soft_labels: SoftLabels) -> LabelColumn:
    """Read (N, C) rows: one-hot, or probabilities."""
    width = array.shape[1]
    if len(array) == 1:
        raise UserError(
            f"{location} must have the shape (N,), one label for each example, but has {array.shape}; transpose it, or add "
            "examples"
        )
    if array.dtype.kind not in "biuf":
        raise UserError(f"{location} must be one label for each example, but has the shape {array.shape}; choose one")
    numbers = array.astype(np.float64)
    numbers = np.where(missing[:, None], 0.0, numbers)
    if width > MAX_CLASSES:
        raise UserError(f"{location} has {width:,} columns, but at most {MAX_CLASSES:,} classes are possible")
    sums = numbers.sum(axis=1)
    if ((numbers == 0) | (numbers == 1)).all():
        several = np.flatnonzero(~missing & (sums != 1))
        if len(several) and sums[several].max() == 0:
            raise UserError(
                f"{location} has the shape {array.shape}, but no class in row {several[0]} ({len(several)} such rows in all); "
                "one-hot rows have one 1; remove these examples"
            )
        if len(several):
            row = int(several[sums[several] > 0][0])
            raise UserError(
                f"{location} has the shape {array.shape} with {int(sums[row])} classes in row {row}: several labels for one "
                "example (multi-label) are not supported; choose one class for each example, or one of the columns"
            )
        note = ReadingNote("one_hot_labels", f"{location}: one-hot rows were read as classes", int((~missing).sum()))
        codes = np.where(missing, NO_LABEL, numbers.argmax(axis=1))
        return _numbered(location, codes, width, note)
    probabilities = np.isfinite(numbers).all() and (numbers >= 0).all()
    if not probabilities or (np.abs(sums[~missing] - 1) > SUM_TOLERANCE).any():
        wrong = (~np.isfinite(numbers) | (numbers < 0)).any(axis=1) | (np.abs(sums - 1) > SUM_TOLERANCE)
        row = int(np.flatnonzero(~missing & wrong)[0])
        raise UserError(
            f"{location} has the shape {array.shape}, but row {row} is neither one-hot nor probabilities that sum to 1 "
            f"({show(array[row].tolist())}); give one label for each example"
        )
    if soft_labels == "refuse":
        row = int(np.flatnonzero(~missing & (numbers.max(axis=1) < 1))[0])
        raise UserError(
            f"{location} are probabilities of {width} classes (row {row}: {show(array[row].tolist())}); set "
            "dataset.soft_labels=argmax to use the most probable class of each example"
        )
    tied = ~missing & ((numbers == numbers.max(axis=1, keepdims=True)).sum(axis=1) > 1)
    text = f"{location}: the most probable class of soft labels was used"
    notes = [ReadingNote("soft_labels", text, int((~missing).sum()))]
    if tied.any():
        text = f"{location}: soft labels with several most probable classes count as unlabeled"
        notes.append(ReadingNote("tied_labels", text, int(tied.sum())))
    codes = np.where(missing | tied, NO_LABEL, numbers.argmax(axis=1))
    return _numbered(location, codes, width, *notes)


def _numbered(location: str, codes: NDArray[np.int64], width: int, *notes: ReadingNote) -> LabelColumn:
    values = tuple(str(column) for column in range(width))
    return LabelColumn(location, "integers", values, codes, width, notes=notes)
