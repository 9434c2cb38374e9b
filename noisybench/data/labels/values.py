"""Class indices of the labels in a table: class names first, and numbers only where one meaning is possible."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisybench.data.arrays import MAX_EXACT
from noisybench.data.labels.class_labels import COMMON_UNLABELED, MISSING_WORDS, IntegerLabels, match_labels
from noisybench.data.labels.class_names import INTEGER, normalize_name, sort_names
from noisybench.data.labels.columns import NO_LABEL, LabelColumn, read_label_column
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, nearest, show
from noisybench.utils.text import printable

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def class_indices(
    values: Sequence[str],
    class_names: Sequence[str],
    location: str,
    unlabeled: Sequence[str] = (),
    integer_labels: IntegerLabels = "auto",
    describe: Callable[[int], str] = "entry {}".format,
) -> tuple[NDArray[np.int64], tuple[ReadingNote, ...]]:
    """Return the class of each label of a table.

    Text is the name of a class. Numbers are names if the classes are named by integers, and indices otherwise; where
    both are possible and differ, ``integer_labels`` decides.

    Args:
        values: labels as text; empty text is no label.
        class_names: names of the dataset's classes.
        location: name of the column for messages.
        unlabeled: declared values for no label.
        integer_labels: meaning of integers.
        describe: returns the location of a label by its position, for messages.

    Returns:
        (N,) class indices, with `UNKNOWN_TARGET` where there is no label, and the conversions.

    Raises:
        UserError: a label is none of the classes or has two meanings, or a declared value does not occur or is a class.

    Examples:
        >>> class_indices(["dog", "", "cat"], ("cat", "dog"), "labels.csv")[0]
        array([ 1, -2,  0])
        >>> class_indices(["10", "2.0"], ("1", "2", "10"), "labels.csv")[0]
        array([2, 1])
        >>> class_indices(["Cat"], ("cat", "dog"), "labels.csv")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels.csv: entry 0: the label `Cat` is none of the 2 classes; did you mean `cat`?
    """
    names = tuple(map(normalize_name, class_names))
    texts = np.array([_without_apostrophe(normalize_name(value), names) for value in values], dtype=str)
    missing = (texts == "") | _declared(texts, unlabeled, names, location)
    used = sort_names(np.unique(texts[~missing]).tolist())
    _check_used(texts, missing, used, names, location, describe)
    if set(used) <= set(names) and not all(_is_canonical(text) for text in used):
        position = {name: index for index, name in enumerate(names)}
        table = np.array([position.get(text, UNKNOWN_TARGET) for text in texts.tolist()], dtype=np.int64)
        return np.where(missing, UNKNOWN_TARGET, table), ()
    column = read_label_column(np.where(missing, "", texts), location)
    if all(INTEGER.fullmatch(text) for text in column.used):
        column = replace(column, kind="integers")
        # `1` is the class `001`, which spreadsheets write so.
        numbers = tuple(str(int(name)) if INTEGER.fullmatch(name) else name for name in names)
        names = numbers if len(set(numbers)) == len(names) else names
    targets, notes = match_labels(_plain_integers(column), names, integer_labels, location="noise")
    return targets, (*column.notes, *notes)


def _plain_integers(column: LabelColumn) -> LabelColumn:
    """Return a column of integers without signs and zeros that change nothing, such as ``007``."""
    if column.kind != "integers":
        return column
    plain = [str(int(value)) for value in column.values]
    values = tuple(sort_names(sorted(set(plain))))
    position = {value: code for code, value in enumerate(values)}
    table = np.array([*(position[value] for value in plain), NO_LABEL], dtype=np.int64)
    return replace(column, values=values, codes=table[column.codes])


def _without_apostrophe(text: str, names: Sequence[str]) -> str:
    """Return text without the apostrophe that keeps spreadsheets from reading it as a formula."""
    return text[1:] if text.startswith("'") and text[1:] in names and text not in names else text


def _is_canonical(text: str) -> bool:
    return bool(INTEGER.fullmatch(text)) and str(int(text)) == text


def _declared(
    texts: NDArray[np.str_], unlabeled: Sequence[str], names: Sequence[str], location: str
) -> NDArray[np.bool_]:
    """Return a mask of the labels that are one of the declared values for no label."""
    mask = np.zeros(len(texts), dtype=bool)
    for value in map(normalize_name, unlabeled):
        if value in names:
            raise UserError(f"noise.unlabeled: {show(value, quotes=False)} is a class of the dataset; leave it out")
        found = texts == value
        if INTEGER.fullmatch(value):
            # The same number in floating point.
            found |= texts == f"{value}.0"
        if not found.any():
            raise UserError(
                f"noise.unlabeled: no label of {location} is {show(value, quotes=False)}; "
                f"{nearest(value, np.unique(texts)[:1000].tolist())}"
            )
        mask |= found
    return mask


def _check_used(
    texts: NDArray[np.str_],
    missing: NDArray[np.bool_],
    used: Sequence[str],
    names: Sequence[str],
    location: str,
    describe: Callable[[int], str],
) -> None:
    """Refuse the first label that is neither a name nor a number with a possible meaning."""
    known = {*names, *(str(int(name)) for name in names if INTEGER.fullmatch(name))}
    # Numbers among names are no indices.
    has_names = any(text in known and not INTEGER.fullmatch(text) for text in used)
    problems = {text: reason for text in used if (reason := _problem(text, known, names, has_names))}
    rows = np.flatnonzero(np.isin(texts, list(problems)) & ~missing)
    if len(rows):
        text = str(texts[rows[0]])
        others = f" ({len(problems) - 1} more labels likewise)" if len(problems) > 1 else ""
        raise UserError(f"{location}: {describe(int(rows[0]))}: {problems[text]}{others}")


def _problem(text: str, known: Collection[str], names: Sequence[str], has_names: bool) -> str:
    """Return the reason why a label has no meaning; empty text if it has one."""
    if text in known:
        return ""
    if not _DECIMAL.fullmatch(text) or has_names:
        hint = "; declare it with noise.unlabeled if it means that there is no label" if text in MISSING_WORDS else ""
        nearby = nearest(text, map(printable, names))
        return f"the label {show(text, quotes=False)} is none of the {len(names)} classes; {nearby}{hint}"
    number = float(text)
    if not math.isfinite(number) or number % 1 or abs(number) > MAX_EXACT:
        return f"the label is {show(text)}, but must be the name of a class or a whole number"
    if str(int(number)) in known or 0 <= number < len(names):
        return ""
    hint = ""
    if int(number) in COMMON_UNLABELED:
        hint = f"; if it means that there is no label, set noise.unlabeled={int(number)}"
    listed = ", ".join(map(printable, names[:5])) + (" …" if len(names) > 5 else "")
    return f"the label {text} is none of the {len(names)} classes ({listed}) nor of their indices, 0 to {len(names) - 1}{hint}"
