"""Datasets: inputs with their best known targets, in fixed and hashed train, validation and test splits."""

from __future__ import annotations

import abc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import Configurable, parameter
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.data.traces.formats import TraceFormat
from noisybench.data.dataset import Dataset, RawSplit, Split
from noisybench.data.lazy import _rows
from noisybench.data.targets import IGNORED, OOD_TARGET, Targets, is_labeled


class DatasetSource(Configurable, abc.ABC):
    """Contract of a dataset: read examples; splitting, subsetting and hashing are done here, alike for all.

    A new dataset is one file in `tasks/datasets/` with one subclass that implements `read` and `example`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    validation_fraction: float = parameter(
        0.1,
        ge=0,
        lt=1,
        help="share of the training examples held out, with noisy labels, for the `noisy_val` rule",
    )
    test_fraction: float = parameter(
        0.25, gt=0, lt=1, help="share held out for testing where the source has no test split"
    )
    train_size: int | None = parameter(
        None, ge=1, help="use only so many training examples, class-balanced as the source is"
    )
    test_size: int | None = parameter(None, ge=1, help="use only so many test examples")
    split_seed: int = parameter(0, ge=0, help="seed of the splits; not changed by the run's seed")
    held_out_classes: list[int] | None = parameter(
        None, help="class numbers left out of the task; their training images can serve as out-of-distribution images"
    )

    part: list[float] | None = parameter(
        None,
        help="use only this part of the shuffled training examples, from one share to another; [0, 0.6] and [0.6, 1] "
        "have none in common",
    )
    shifts: list[str] | None = parameter(
        None,
        help="also test on shifted copies of the test images, such as rotation:15, noise:0.2, translation:1, inversion",
    )

    @abc.abstractmethod
    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the source.

        Returns:
            Training examples, test examples (None where the source has no test split), class names.

        Raises:
            UserError: files are missing or damaged; says which, and what to do.
        """

    @classmethod
    @abc.abstractmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny set in this dataset's own file format; the contract test loads it.

        Args:
            folder: an empty folder.

        Returns:
            The parameters that load it.
        """

    def trace_format(self) -> TraceFormat | None:
        """How traces are to be read; asked for once the source was read."""
        return None

    def read_shifted(self) -> dict[str, RawSplit]:
        """Test examples of the same classes from other distributions, where the source has some, by name."""
        return {}

    def load(self) -> Dataset:
        """Read, split and subset. The same parameters and files give the same splits on every machine."""
        examples, test, class_names = self.read()
        self._check(examples, test, class_names)
        source_size = len(examples.targets)
        kept = self._kept_classes(len(class_names))
        rows, left_out = _of_classes(examples, kept)
        rows = self._part_of(rows)
        test_rows = rows if test is None else _of_classes(test, kept)[0]
        outside = _rows(examples.inputs, left_out) if len(left_out) else None
        examples, test = (each and _renumbered(each, kept) for each in (examples, test))  # type: ignore[assignment]
        stream = Stream("split", self.split_seed)
        if test is None:
            if examples.noisy_targets is not None and examples.targets.ndim == 1:
                raise UserError("dataset: there is no test split whose labels are known; fetch it as well")
            held_out = stratified(_strata(examples.targets)[rows], round(self.test_fraction * len(rows)), stream)
            rows, test_rows, test = rows[~held_out], rows[held_out], examples
        labels = _strata(examples.labels)
        if examples.held_out is None:
            held_out = stratified(labels[rows], round(self.validation_fraction * len(rows)), stream)
        else:
            held_out = examples.held_out[rows]
        train_rows, validation_rows = rows[~held_out], rows[held_out]
        train_rows = _subset(labels, train_rows, self.train_size, stream, "train_size")
        test_rows = _subset(_strata(test.targets), test_rows, self.test_size, stream, "test_size")
        test_split = _take(test, test_rows)
        return Dataset(
            name=type(self).__module__.rsplit(".", 1)[-1],
            train=_take(examples, train_rows),
            validation=_take(examples, validation_rows),
            test=test_split,
            shifted=self._shifted(test_split, kept),
            class_names=tuple(class_names[each] for each in kept),
            source_size=source_size,
            ood_images=outside,
            skipped=examples.skipped + test.skipped if test is not examples else examples.skipped,
            source_names=examples.names,
            traces=self.trace_format(),
        )

    def _part_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.part is None:
            return rows
        if len(self.part) != 2 or not 0 <= self.part[0] < self.part[1] <= 1:
            raise UserError(f"dataset.part: expected two shares from 0 to 1, the first smaller, but got {self.part}")
        first, last = (round(share * len(rows)) for share in self.part)
        return np.sort(rows[Stream("part", self.split_seed).permutation(len(rows))[first:last]])

    def _shifted(self, test: Split, kept: list[int]) -> dict[str, Split]:
        from noisybench.data.shifts import shift

        found = {}
        for name, each in self.read_shifted().items():
            rows = _of_classes(each, kept)[0]
            found[name] = _take(_renumbered(each, kept), rows)
        for name in self.shifts or ():
            found[name] = replace(test, inputs=shift(name, test.inputs[:]))
        return found

    def _kept_classes(self, count: int) -> list[int]:
        held_out = set(self.held_out_classes or ())
        wrong = sorted(each for each in held_out if not 0 <= each < count)
        kept = [each for each in range(count) if each not in held_out]
        if wrong or len(kept) < 2:
            raise UserError(
                f"dataset.held_out_classes: must be numbers from 0 to {count - 1} that leave at least two classes, but got "
                f"{self.held_out_classes}"
            )
        return kept

    def _check(self, examples: RawSplit, test: RawSplit | None, class_names: tuple[str, ...]) -> None:
        for split, each in (("training", examples), ("test", test)):
            if each is None:
                continue
            if len(each.inputs) != len(each.targets) or not len(each.targets):
                raise UserError(f"dataset: {len(each.inputs)} {split} inputs but {len(each.targets)} targets")
            if each.targets.ndim > 1:
                self._check_masks(each, split, len(class_names))
                continue
            labels = each.labels
            low, high = int(labels.min()), max(int(labels.max()), int(each.targets.max()))
            if low < 0 or high >= len(class_names):
                raise UserError(
                    f"dataset: {split} targets go from {low} to {high}, but {len(class_names)} classes allow 0 to "
                    f"{len(class_names) - 1}"
                )

    def _check_masks(self, examples: RawSplit, split: str, classes: int) -> None:
        if self.held_out_classes or self.shifts:
            raise UserError(
                "dataset: held_out_classes and shifts are for images of one class, not for masks; leave them out"
            )
        for masks in (examples.targets, examples.noisy_targets):
            if masks is None:
                continue
            if masks.ndim > 2 and masks.shape != (len(examples.inputs), *examples.inputs.shape[2:]):
                raise UserError(
                    f"dataset: {split} images are {examples.inputs.shape}, but their masks {masks.shape}; give each pixel a label"
                )
            labels = is_labeled(masks)
            if int(masks.max(initial=0, where=labels)) >= classes:
                raise UserError(
                    f"dataset: {split} masks have values up to {masks.max(where=labels, initial=0)}, but {classes} classes allow "
                    f"0 to {classes - 1}, and {IGNORED} for no label"
                )
            empty = np.flatnonzero(~labels.reshape(len(labels), -1).any(axis=1))
            if len(empty):
                raise UserError(
                    f"dataset: {len(empty)} {split} images have no labelled pixel, the first in row {empty[0]}; leave them out"
                )


def _strata(targets: Targets) -> NDArray[np.int64]:
    """(N,) what to balance splits by: the class; masks have many, so all are alike."""
    return np.zeros(len(targets), dtype=np.int64) if targets.ndim > 1 else targets


def _of_classes(examples: RawSplit, kept: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose label is one of the kept classes, and the others; every mask is kept."""
    if examples.targets.ndim > 1:
        return np.arange(len(examples.targets)), np.arange(0)
    inside = np.isin(examples.labels, kept)
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def _renumbered(examples: RawSplit, kept: list[int]) -> RawSplit:
    """The same with the kept classes numbered from 0; an example of another class belongs to none."""
    if examples.targets.ndim > 1:
        return examples

    def number(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = np.full(max(int(labels.max(initial=0)), *kept) + 1, OOD_TARGET, dtype=np.int64)
        numbers[kept] = np.arange(len(kept))
        return np.where(labels < 0, labels, numbers[np.maximum(labels, 0)])

    given = None if examples.noisy_targets is None else number(examples.noisy_targets)
    return replace(examples, targets=number(examples.targets), noisy_targets=given)


def stratified(targets: NDArray[np.int64], count: int, stream: Stream) -> NDArray[np.bool_]:
    """Choose ``count`` examples whose class shares are those of all, to within one example per class.

    Args:
        targets: (N,) class indices.
        count: how many, in [0, N].
        stream: decides which.

    Returns:
        (N,) mask with exactly ``count`` true entries.
    """
    order = stream.permutation(len(targets))
    by_class = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(targets), dtype=np.int64)
    place[by_class] = np.arange(len(targets)) - starts[targets[by_class]]
    quantile = (place + 0.5) / sizes[targets]
    tie_break = np.empty(len(targets), dtype=np.int64)
    tie_break[order] = np.arange(len(targets))
    chosen = np.zeros(len(targets), dtype=bool)
    chosen[np.lexsort((tie_break, quantile))[:count]] = True
    return chosen


def _subset(
    targets: NDArray[np.int64], rows: NDArray[np.int64], size: int | None, stream: Stream, name: str
) -> NDArray[np.int64]:
    if size is None:
        return rows
    if size > len(rows):
        raise UserError(f"dataset.{name}: {size} examples were asked for, but only {len(rows)} are there")
    return rows[stratified(targets[rows], size, stream)]


def _take(examples: RawSplit, rows: NDArray[np.int64]) -> Split:
    kind = np.uint8 if examples.targets.ndim > 1 else np.int64
    given = None if examples.noisy_targets is None else examples.noisy_targets[rows].astype(kind)
    inputs = _rows(examples.inputs, rows)
    return Split(inputs, examples.targets[rows].astype(kind), rows.astype(np.int64), given)
