"""Checks of the splits that a dataset source reads: they belong together, and their classes can be learned."""

from __future__ import annotations

import numpy as np

from noisybench.data.arrays import MAX_CLASSES
from noisybench.data.dataset import RawSplit
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.targets import target_kind
from noisybench.errors import UserError
from noisybench.utils.text import printable

MAX_LISTED = 5
"""Largest number of classes that a message lists."""


def check_class_names(class_names: tuple[str, ...]) -> None:
    """Refuse class names that no file or page could contain, and numbers of classes with which nothing can be learned.

    Raises:
        UserError: a name is not Unicode text, as names of folders can be, or there are too few or too many.
    """
    for name in class_names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(f"dataset: the class name `{printable(name)}` is not encoded in UTF-8; rename its folder")
    if len(class_names) == 1:
        raise UserError(
            f"dataset: has the one class `{printable(class_names[0])}`, but at least two are needed; add examples of another"
        )
    if not class_names:
        raise UserError("dataset: has no classes, but at least two are needed")


def check_sizes(split: RawSplit, name: str, num_classes: int) -> None:
    """Refuse a split without examples, with another number of labels than inputs, or with impossible labels.

    Raises:
        UserError: with the reason.
    """
    if not len(split.targets) and not len(split.inputs):
        raise UserError(
            f"dataset: the {name} split has no examples; add some"
            + (", or remove it, so that one is drawn from the training examples" if name == "test" else "")
        )
    if len(split.inputs) != len(split.targets):
        raise UserError(f"dataset: {len(split.inputs)} {name} inputs but {len(split.targets)} targets")
    if split.groups is not None and len(split.groups) != len(split.targets):
        raise UserError(f"dataset: {len(split.targets)} {name} targets but {len(split.groups)} groups")
    kind = target_kind(split.targets)
    # The classes of traces are characters, of which there are more.
    if kind.name != "tokens" and num_classes > MAX_CLASSES:
        raise UserError(f"dataset: must have 2 to {MAX_CLASSES} classes, but has {num_classes}")
    kind.check(split.targets, split.noisy_targets, split.inputs.shape, num_classes, name)


def check_same_kind(train: RawSplit, test: RawSplit) -> None:
    """Refuse test inputs of another shape, and test targets of another kind.

    Raises:
        UserError: the splits do not belong together.
    """
    shapes = [split.inputs.shape[1:] for split in (train, test)]
    if shapes[0] != shapes[1]:
        shown = ["x".join(map(str, shape)) for shape in shapes]
        raise UserError(
            f"dataset: training inputs have the shape {shown[0]} (channels x height x width), but test inputs {shown[1]}; "
            "convert them to one shape"
        )
    kinds = [target_kind(split.targets).name for split in (train, test)]
    if kinds[0] != kinds[1]:
        raise UserError(f"dataset: the training split has {kinds[0]}, but the test split {kinds[1]}")


def check_classes(train: RawSplit, test: RawSplit | None, class_names: tuple[str, ...]) -> tuple[ReadingNote, ...]:
    """Refuse classes that cannot be learned or scored, and return notes about those without examples.

    Args:
        train: training examples with one class each.
        test: test examples, if the source has a test split.
        class_names: names of all classes.

    Raises:
        UserError: all training examples have one class, or the test split has a class that the training split lacks.

    Example:
        >>> images = np.zeros((3, 1, 4, 4), dtype=np.uint8)
        >>> train, test = RawSplit(images, np.array([0, 1, 0])), RawSplit(images[:2], np.array([0, 2]))
        >>> check_classes(train, test, ("cat", "dog", "horse"))
        Traceback (most recent call last):
        noisybench.errors.UserError: dataset: the test split has the class `horse` (1 example), which the training ...
    """
    counts = np.bincount(train.labels[train.labels >= 0], minlength=len(class_names))
    used = np.flatnonzero(counts)
    if len(used) == 1:
        raise UserError(
            f"dataset: has the one class `{printable(class_names[used[0]])}`: all {len(train.labels)} training examples "
            "have this label, but at least two classes are needed"
        )
    names = [printable(name) for name in class_names]
    notes = reading_note(
        "classes_without_examples",
        "Classes have no training examples",
        (names[row] for row in np.flatnonzero(counts == 0)),
    )
    if test is None:
        return notes
    test_counts = np.bincount(test.targets[test.targets >= 0], minlength=len(class_names))
    known = np.zeros(len(class_names), dtype=bool)
    known[np.union1d(train.targets[train.targets >= 0], used)] = True
    if unseen := np.flatnonzero((test_counts > 0) & ~known).tolist():
        listed = ", ".join(f"`{names[row]}` ({_count(int(test_counts[row]))})" for row in unseen[:MAX_LISTED])
        more, noun = " …" if len(unseen) > MAX_LISTED else "", "class" if len(unseen) == 1 else "classes"
        have = ", ".join(f"`{names[row]}`" for row in used[:MAX_LISTED]) + (" …" if len(used) > MAX_LISTED else "")
        raise UserError(
            f"dataset: the test split has the {noun} {listed}{more}, which the training split does not have; its classes are "
            f"{have}. Remove these test examples, or correct the labels"
        )
    untested = np.flatnonzero((counts > 0) & (test_counts == 0))
    text = "Classes have training examples, but no test examples"
    return notes + reading_note("classes_without_test_examples", text, (names[row] for row in untested))


def _count(number: int) -> str:
    return f"{number} example{'s' if number != 1 else ''}"
