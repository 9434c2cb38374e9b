"""The contract of dataset sources: read examples; splitting, subsetting and hashing are the same for all of them."""

from __future__ import annotations

import abc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import Configurable, parameter
from noisybench.data.arrays import MAX_CLASSES
from noisybench.data.dataset import Dataset, RawSplit, Split
from noisybench.data.lazy import take_rows
from noisybench.data.notes import merge_notes
from noisybench.data.shifts import apply_shift
from noisybench.data.targets import target_kind
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream
from noisybench.utils.text import printable

if TYPE_CHECKING:
    from noisybench.data.traces.formats import TraceFormat

Rows = NDArray[np.int64]
"""Positions of examples in the source."""


class DatasetSource(Configurable, abc.ABC):
    """Contract of a dataset.

    A new dataset is one file in `tasks/datasets/` with one subclass that implements `read` and `example`.

    Examples:
        >>> class Checkerboards(DatasetSource):
        ...     def read(self):
        ...         targets = np.arange(40) % 2
        ...         images = np.zeros((40, 1, 8, 8), dtype=np.uint8)
        ...         images[targets == 1, :, ::2] = 255
        ...         return RawSplit(images, targets), None, ("plain", "striped")
        ...     @classmethod
        ...     def example(cls, folder):
        ...         return {}
        >>> dataset = Checkerboards(test_fraction=0.25, validation_fraction=0.2).load()
        >>> len(dataset.train), len(dataset.validation), len(dataset.test)
        (24, 6, 10)
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    validation_fraction: float = parameter(
        0.1,
        ge=0,
        lt=1,
        help="Fraction of the training examples held out, with noisy labels, for the `noisy_val` selection rule",
    )
    test_fraction: float = parameter(
        0.25, gt=0, lt=1, help="Fraction of the examples held out for testing if the source has no test split"
    )
    train_size: int | None = parameter(
        None, ge=1, help="Number of training examples to use, with the class proportions of the source"
    )
    test_size: int | None = parameter(None, ge=1, help="Number of test examples to use")
    split_seed: int = parameter(0, ge=0, help="Random seed of the splits (independent of the run's seed)")
    ood_classes: list[int] | None = parameter(
        None,
        help="Class indices to exclude from the task; their training images can serve as out-of-distribution images",
    )
    subset_range: list[float] | None = parameter(
        None,
        help="Range of the shuffled training examples to use, as two fractions; [0, 0.6] and [0.6, 1] are disjoint",
    )
    test_shifts: list[str] | None = parameter(
        None,
        help="Shifted copies of the test images to evaluate on, such as rotation:15, noise:0.2, translation:1, inversion",
        access="value",
    )

    @abc.abstractmethod
    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the source.

        Returns:
            Training examples, test examples (None if the source has no test split), and class names.

        Raises:
            UserError: files are missing or damaged; the message names them and says what to do.
        """

    @classmethod
    @abc.abstractmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny dataset in the source's own file format for the contract test.

        Args:
            folder: an empty folder.

        Returns:
            Parameters that load it.
        """

    def trace_format(self) -> TraceFormat | None:
        """Return the format of chain-of-thought traces, if targets are traces; called after `read`."""
        return None

    def read_shifted_tests(self) -> dict[str, RawSplit]:
        """Return test examples of the same classes from other distributions by name, if the source has any."""
        return {}

    def load(self) -> Dataset:
        """Read, split and subset the source.

        The same parameters and files give the same splits on every machine.

        Raises:
            UserError: files are missing or damaged, or parameters do not fit the data.
        """
        source, source_test, class_names = self.read()
        _check_class_names(class_names)
        self._check(source, source_test, len(class_names))
        classes = self._task_classes(len(class_names))
        in_task, ood_rows = _rows_by_class(source, classes)
        rows = self._in_subset_range(in_task)
        train = _remap_classes(source, classes)
        # One stream for all splits, drawn from in this order.
        stream = Stream("split", self.split_seed)
        if source_test is None:
            test = train
            rows, test_rows = self._hold_out_test(train, rows, stream)
        else:
            test = _remap_classes(source_test, classes)
            test_rows = _rows_by_class(source_test, classes)[0]
        train_rows, validation_rows = self._hold_out_validation(train, rows, stream)
        # After the validation split, which therefore does not depend on `train_size`.
        train_rows = _sample(_stratify_by(train), train_rows, self.train_size, stream, "train_size")
        test_rows = _sample(
            _stratify_by(replace(test, noisy_targets=None)), test_rows, self.test_size, stream, "test_size"
        )
        for name, part in (("training", train_rows), ("test", test_rows)):
            if not len(part):
                raise UserError(
                    f"dataset: no {name} example is left of {len(source.targets)} examples; provide more, or change "
                    "test_fraction, validation_fraction, subset_range or ood_classes"
                )
        test_split = _take(test, test_rows)
        return Dataset(
            name=type(self).__module__.rsplit(".", 1)[-1],
            train=_take(train, train_rows),
            validation=_take(train, validation_rows),
            test=test_split,
            shifted_tests=self._shifted_tests(test_split, classes),
            class_names=tuple(class_names[index] for index in classes),
            source_size=len(source.targets),
            ood_images=take_rows(source.inputs, ood_rows) if len(ood_rows) else None,
            skipped_files=source.skipped_files + (source_test.skipped_files if source_test else ()),
            notes=merge_notes(source.notes + (source_test.notes if source_test else ())),
            source_names=source.names,
            trace_format=self.trace_format(),
        )

    def _check(self, source: RawSplit, test: RawSplit | None, num_classes: int) -> None:
        if target_kind(source.targets).dense and (self.ood_classes or self.test_shifts):
            raise UserError(
                "dataset: ood_classes and test_shifts apply to images with one class each, not to masks or traces; "
                "remove them"
            )
        for name, split in (("training", source), ("test", test)):
            if split is None:
                continue
            if len(split.inputs) != len(split.targets) or not len(split.targets):
                raise UserError(f"dataset: {len(split.inputs)} {name} inputs but {len(split.targets)} targets")
            kind = target_kind(split.targets)
            kind.check(split.targets, split.noisy_targets, split.inputs.shape, num_classes, name)
        if test is not None:
            _check_same_kind(source, test)

    def _task_classes(self, num_classes: int) -> list[int]:
        """Return the indices of the classes that are not in `ood_classes`."""
        if not 2 <= num_classes <= MAX_CLASSES:
            raise UserError(f"dataset: must have 2 to {MAX_CLASSES} classes, but has {num_classes}")
        excluded = set(self.ood_classes or ())
        classes = [index for index in range(num_classes) if index not in excluded]
        if not excluded <= set(range(num_classes)) or len(classes) < 2:
            raise UserError(
                f"dataset.ood_classes: must be class indices from 0 to {num_classes - 1} that leave at least two classes, "
                f"but got {self.ood_classes}"
            )
        return classes

    def _in_subset_range(self, rows: Rows) -> Rows:
        if self.subset_range is None:
            return rows
        if len(self.subset_range) != 2 or not 0 <= self.subset_range[0] < self.subset_range[1] <= 1:
            raise UserError(
                "dataset.subset_range: must be two fractions from 0 to 1 in increasing order, but got "
                f"{self.subset_range}"
            )
        # Both ranges round the same products, so adjoining ranges neither share a row nor lose one.
        first, last = (round(fraction * len(rows)) for fraction in self.subset_range)
        # A stream of its own, so that the later draws stay the same. Sorting restores the order of the source.
        return np.sort(rows[Stream("part", self.split_seed).permutation(len(rows))[first:last]])

    def _hold_out_test(self, train: RawSplit, rows: Rows, stream: Stream) -> tuple[Rows, Rows]:
        """Return training and test rows of a source without a test split."""
        kind = target_kind(train.targets)
        if train.noisy_targets is not None and not kind.dense:
            raise UserError("dataset: a source with noisy labels needs a clean test split; download it as well")
        held_out = stratified(kind.strata(train.targets)[rows], round(self.test_fraction * len(rows)), stream)
        return rows[~held_out], rows[held_out]

    def _hold_out_validation(self, train: RawSplit, rows: Rows, stream: Stream) -> tuple[Rows, Rows]:
        """Return training and validation rows."""
        if train.validation_mask is None:
            count = round(self.validation_fraction * len(rows))
            held_out = stratified(_stratify_by(train)[rows], count, stream)
        else:
            held_out = train.validation_mask[rows]
        return rows[~held_out], rows[held_out]

    def _shifted_tests(self, test: Split, classes: list[int]) -> dict[str, Split]:
        splits = {}
        for name, raw in self.read_shifted_tests().items():
            splits[name] = _take(_remap_classes(raw, classes), _rows_by_class(raw, classes)[0])
        for name in self.test_shifts or ():
            splits[name] = replace(test, inputs=apply_shift(name, test.inputs[:]))
        return splits


def _check_same_kind(train: RawSplit, test: RawSplit) -> None:
    """Refuse test inputs of another shape, and test classes that never occur in training.

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
    if target_kind(train.targets).dense:
        return
    unseen = np.setdiff1d(test.targets, np.union1d(train.targets, train.labels))
    if len(unseen):
        listed = ", ".join(map(str, unseen[:5].tolist()))
        raise UserError(
            f"dataset: the test split has the labels {listed}{' …' if len(unseen) > 5 else ''}, which the training split "
            "does not have; remove these examples or correct the labels"
        )


def _check_class_names(class_names: tuple[str, ...]) -> None:
    """Refuse class names that no file or page could contain.

    Raises:
        UserError: a name is not Unicode text, as names of folders can be.
    """
    for name in class_names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(f"dataset: the class name `{printable(name)}` is not encoded in UTF-8; rename its folder")


def stratified(targets: NDArray[np.int64], count: int, stream: Stream) -> NDArray[np.bool_]:
    """Choose examples so that the number of each class differs from its share by less than one.

    Args:
        targets: (N,) class indices.
        count: number of examples to choose, in [0, N].
        stream: source of randomness.

    Returns:
        (N,) mask with exactly ``count`` true entries.

    Examples:
        >>> targets = np.array([0, 0, 0, 0, 1, 1])
        >>> chosen = stratified(targets, 3, Stream("example"))
        >>> np.bincount(targets[chosen])
        array([2, 1])
    """
    # Stable sorting of a random order gives a random order within each class.
    order = stream.permutation(len(targets))
    by_class = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(targets), dtype=np.int64)
    rank[by_class] = np.arange(len(targets)) - starts[targets[by_class]]
    # Sorting by the quantile within the class takes from every class at the same pace.
    quantile = (rank + 0.5) / sizes[targets]
    # Examples of equally large classes have equal quantiles; without a random order the first rows would always win.
    tie_break = np.empty(len(targets), dtype=np.int64)
    tie_break[order] = np.arange(len(targets))
    chosen = np.zeros(len(targets), dtype=bool)
    # The last key of `lexsort` is the primary one.
    chosen[np.lexsort((tie_break, quantile))[:count]] = True
    taken = np.bincount(targets[chosen], minlength=len(sizes))
    # In units of 1 / N examples, so that all numbers are whole. This pace (Webster's method) can leave a class of one
    # example out for too long, if there are many of them beside a large one.
    if (np.abs(taken * len(targets) - count * sizes) < len(targets)).all():
        return chosen
    # The method of largest remainders never differs by a whole example; equal remainders are taken in random order.
    taken, remainders = np.divmod(count * sizes, len(targets))
    first = np.full(len(sizes), len(targets))
    np.minimum.at(first, targets, tie_break)
    taken[np.lexsort((first, -remainders))[: count - taken.sum()]] += 1
    return np.asarray(rank < taken[targets])


def _stratify_by(split: RawSplit) -> NDArray[np.int64]:
    """Return the (N,) groups whose proportions the splits preserve, by the labels that training sees."""
    return target_kind(split.targets).strata(split.labels)


def _rows_by_class(split: RawSplit, classes: list[int]) -> tuple[Rows, Rows]:
    """Return the rows whose label is one of ``classes``, and all others."""
    # By the label that training sees, because the clean class of an example with noisy labels may be unknown.
    inside = target_kind(split.targets).has_class_in(split.labels, classes)
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def _remap_classes(split: RawSplit, classes: list[int]) -> RawSplit:
    """Return the split with ``classes`` numbered from 0."""
    kind = target_kind(split.targets)
    noisy_targets = None if split.noisy_targets is None else kind.remap_classes(split.noisy_targets, classes)
    return replace(split, targets=kind.remap_classes(split.targets, classes), noisy_targets=noisy_targets)


def _sample(strata: NDArray[np.int64], rows: Rows, size: int | None, stream: Stream, name: str) -> Rows:
    """Return ``size`` of the rows with the proportions of all; all of them if it is None."""
    if size is None:
        return rows
    if size > len(rows):
        raise UserError(f"dataset.{name}: must be at most {len(rows)}, the number of examples, but got {size}")
    return rows[stratified(strata[rows], size, stream)]


def _take(split: RawSplit, rows: Rows) -> Split:
    dtype = target_kind(split.targets).dtype
    noisy_targets = None if split.noisy_targets is None else split.noisy_targets[rows].astype(dtype)
    return Split(take_rows(split.inputs, rows), split.targets[rows].astype(dtype), rows.astype(np.int64), noisy_targets)
