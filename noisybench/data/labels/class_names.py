"""Names of classes: their normal form, their order, and checks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from noisybench.data.arrays import MAX_CLASSES
from noisybench.data.notes import MAX_NAMES, ReadingNote
from noisybench.errors import UserError, show
from noisybench.utils.text import printable

INTEGER = re.compile(r"[+-]?[0-9]+")
"""Text of an integer."""

_JOINTS = re.compile(r"[|;,/+ ]")
"""Characters between several labels of one example."""


def normalize_name(name: str) -> str:
    """Return a class name in the normal form NFC, without blanks around it.

    Example:
        >>> normalize_name(" cafe\\u0301") == "caf\\u00e9"
        True
    """
    return unicodedata.normalize("NFC", name).strip()


def _name_order(name: str) -> tuple[int, str]:
    """Return the sort key of a name that is an integer."""
    return int(name), name


def sort_names(names: Sequence[str]) -> list[str]:
    """Return class names in order: as numbers if all are integers, else as text.

    Examples:
        >>> sort_names(["10", "2", "1"]), sort_names(["10", "2", "cat"])
        (['1', '2', '10'], ['10', '2', 'cat'])
    """
    integers = all(INTEGER.fullmatch(name) for name in names)
    return sorted(names, key=_name_order) if integers else sorted(names)


def check_class_names(names: Sequence[str], location: str) -> None:
    """Refuse class names that are empty or occur twice, and more than `MAX_CLASSES`.

    Raises:
        UserError: each class needs a name of its own.
    """
    if len(names) > MAX_CLASSES:
        raise UserError(f"{location} has {len(names):,} names, but at most {MAX_CLASSES:,} classes are possible")
    seen = set()
    for name in names:
        if not name:
            raise UserError(f"{location}: a class has an empty name; each class needs a name of its own")
        if name in seen:
            raise UserError(f"{location}: contains {show(name)} twice; each class needs a name of its own")
        seen.add(name)


def read_class_names(values: Any, location: str) -> tuple[str, ...]:
    """Return class names from an array of text or integers of shape (C,).

    Args:
        values: the array.
        location: name of the array for messages.

    Raises:
        UserError: the shape or the type differs, or a name occurs twice.

    Example:
        >>> read_class_names(np.array(["cat", "dog"]), "class_names")
        ('cat', 'dog')
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise UserError(f"{location} must be a list of names, but is {array.dtype} of shape {array.shape}")
    names = tuple(
        normalize_name(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
        for value in array.tolist()
    )
    check_class_names(names, location)
    return names


def check_single_names(names: Sequence[str], location: str) -> None:
    """Refuse names such as `rust|scab` beside `rust` and `scab`, which are several labels of one example.

    Raises:
        UserError: with the first such name.
    """
    known = set(names)
    for name in names:
        parts = [part.strip() for part in _JOINTS.split(name)]
        if len(parts) > 1 and known.issuperset(parts):
            raise UserError(
                f"{location}: the label {show(name, quotes=False)} joins other classes: several labels for one example "
                "(multi-label) are not supported; choose one class for each example, or list all classes in "
                "dataset.class_names if it is a class of its own"
            )


def similar_names(names: Sequence[str], location: str) -> tuple[ReadingNote, ...]:
    """Return a note about class names that differ only in case or leading zeros, which may be one class.

    Example:
        >>> [str(note) for note in similar_names(["cat", "Cat"], "labels")]
        ['labels: names of classes differ only in case or leading zeros (1: `cat` and `Cat`)']
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        folded = name.casefold()
        groups.setdefault(folded.lstrip("0") or "0" if folded.isdigit() else folded, []).append(name)
    similar = [" and ".join(f"`{printable(name)}`" for name in group) for group in groups.values() if len(group) > 1]
    if not similar:
        return ()
    text = f"{location}: names of classes differ only in case or leading zeros"
    return (ReadingNote("similar_classes", text, len(similar), tuple(similar[:MAX_NAMES])),)
