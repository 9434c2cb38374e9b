"""The contract of dataset sources: read examples; splitting, subsetting and hashing are the same for all of them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import Configurable, parameter
from noisybench.data.dataset import Dataset, RawSplit, Split
from noisybench.data.lazy import take_rows
from noisybench.data.notes import ReadingNote, merge_notes
from noisybench.data.shifts import apply_shift
from noisybench.data.splits.checks import check_class_names, check_classes, check_same_kind, check_sizes
from noisybench.data.splits.duplicates import content_ids, copy_notes, drop_copies, has_copies
from noisybench.data.splits.splits import (
    Groups,
    Rows,
    can_divide,
    check_groups,
    group_notes,
    group_numbers,
    groups_in_names,
    hold_out,
    remap_classes,
    rows_by_class,
    rows_in_range,
    sample,
    stratify_by,
    take,
)
from noisybench.data.targets import target_kind
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.data.masks.masks import MaskReader
    from noisybench.data.traces.formats import TraceFormat


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
    license: ClassVar[License | None] = None
    """License of the data and way of access; None if it is not declared."""

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

    own_files: ClassVar[bool] = False
    """True for readers of people's own files, of which copies of training examples are left out of the test split. The
    splits of published datasets stay as they were published, because results on them are compared with those of others."""
    duplicates: Literal["keep", "drop_from_test"] | None = parameter(
        None,
        help="Treatment of test examples that are exact copies of training examples: `keep`, or `drop_from_test`, which also "
        "draws splits that do not separate copies (default: drop_from_test for own files, keep for published datasets)",
    )
    group_pattern: str | None = parameter(
        None,
        help="Regular expression that finds the group of an example, such as its patient, in its file name, such as "
        "patient[0-9]+ or (?P<group>.*)_[0-9]+; no group is in two splits",
        access="value",
    )
    allow_shared_groups: bool = parameter(
        False, help="Whether groups may occur in several splits of the source", in_identity=False
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

        Images are brighter the higher their class, and objects of masks are brighter than the background, as
        `noisybench.data.images.examples` draws them. The test then changes the files, and compares what is read.

        Args:
            folder: an empty folder.

        Returns:
            Parameters that load it.
        """

    @property
    def has_background(self) -> bool:
        """Whether class 0 of masks is the background."""
        return True

    def trace_format(self) -> TraceFormat | None:
        """Return the format of chain-of-thought traces, if targets are traces; called after `read`."""
        return None

    def mask_reader(self) -> MaskReader | None:
        """Return the reading of mask files, if targets are masks from files; called after `read`."""
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
        source, source_test = self._with_groups(source), None if source_test is None else self._with_groups(source_test)
        notes = self._check(source, source_test, class_names)
        classes = self._task_classes(class_names)
        in_task, ood_rows = rows_by_class(source, classes)
        train = remap_classes(source, classes)
        contents = self._contents(source, source_test)
        if self._has_only_copies(source, source_test, contents):
            text = "Every class has copies of one example only, so that test examples are copies of training examples"
            notes += (ReadingNote("only_copies", text, len(source.targets)),)
            contents = None
        groups = self._undivided(source, contents)
        # A stream of its own, so that the later draws stay the same.
        part_stream = Stream("part", self.split_seed)
        rows = rows_in_range(in_task, groups, self.subset_range, part_stream)
        # One stream for all splits, drawn from in this order.
        stream = Stream("split", self.split_seed)
        if source_test is None:
            test = train
            rows, test_rows = self._hold_out_test(train, groups, rows, stream)
            training_rows = rows
        else:
            test = remap_classes(source_test, classes)
            test_rows, training_rows = rows_by_class(source_test, classes)[0], in_task
        if contents is not None:
            test_ids = contents[0] if source_test is None else contents[1]
            notes += copy_notes(source, contents[0], in_task, " of the training split" if source_test else "")
            test_rows, dropped = drop_copies(test, test_ids, test_rows, train, contents[0], training_rows)
            notes += dropped
            notes += copy_notes(test, test_ids, test_rows, " of the test split") if source_test else ()
        train_rows, validation_rows = self._hold_out_validation(train, groups, rows, stream)
        notes += self._validation_notes(source, groups, validation_rows)
        # After the validation split, which therefore does not depend on `train_size`.
        train_rows = sample(stratify_by(train), train_rows, self.train_size, stream, "train_size")
        test_rows = sample(
            stratify_by(replace(test, noisy_targets=None)), test_rows, self.test_size, stream, "test_size"
        )
        self._check_not_empty({"training": train_rows, "test": test_rows}, len(source.targets))
        test_split = take(test, test_rows)
        return Dataset(
            name=type(self).__module__.rsplit(".", 1)[-1],
            train=take(train, train_rows),
            validation=take(train, validation_rows),
            test=test_split,
            shifted_tests=self._shifted_tests(test_split, classes),
            class_names=tuple(class_names[index] for index in classes),
            source_size=len(source.targets),
            ood_images=take_rows(source.inputs, ood_rows) if len(ood_rows) else None,
            skipped_files=source.skipped_files + (source_test.skipped_files if source_test else ()),
            notes=merge_notes(source.notes + (source_test.notes if source_test else ()) + notes),
            source_names=source.names,
            test_source_size=len(source_test.targets) if source_test else None,
            test_names=source_test.names if source_test else (),
            mask_reader=self.mask_reader(),
            mask_layout=source.mask_layout,
            has_background=self.has_background,
            trace_format=self.trace_format(),
        )

    def _check(self, source: RawSplit, test: RawSplit | None, class_names: tuple[str, ...]) -> tuple[ReadingNote, ...]:
        """Check what was read, and return notes about its classes."""
        dense = target_kind(source.targets).dense
        if dense and (self.ood_classes or self.test_shifts):
            raise UserError(
                "dataset: ood_classes and test_shifts apply to images with one class each, not to masks or traces; "
                "remove them"
            )
        for name, split in (("training", source), ("test", test)):
            if split is not None:
                check_sizes(split, name, len(class_names))
        check_class_names(class_names)
        if test is not None:
            check_same_kind(source, test)
        if not self.allow_shared_groups:
            check_groups(source, test)
        return group_notes(source, test) + (() if dense else check_classes(source, test, class_names))

    def _with_groups(self, split: RawSplit) -> RawSplit:
        """Return a split with the groups that `group_pattern` finds in the names of its files."""
        if self.group_pattern is None:
            return split
        return replace(split, groups=groups_in_names(split.names, self.group_pattern))

    def _contents(self, source: RawSplit, test: RawSplit | None) -> list[NDArray[np.int64]] | None:
        """Return numbers of the contents of both splits; None if copies stay where they are."""
        duplicates = self.duplicates or ("drop_from_test" if self.own_files else "keep")
        if duplicates == "keep":
            return None
        return content_ids(source.inputs, *(() if test is None else (test.inputs,)))

    def _has_only_copies(
        self, source: RawSplit, test: RawSplit | None, contents: list[NDArray[np.int64]] | None
    ) -> bool:
        """Return True if every class has one content only, so that a test split can only have copies."""
        if contents is None or source.groups is not None or self.duplicates is not None:
            return False
        if test is not None:
            strata = target_kind(source.targets).strata(source.labels)
            return len(np.unique(np.concatenate(contents))) <= len(np.unique(strata))
        return not can_divide(target_kind(source.targets).strata(source.targets), contents[0])

    def _undivided(self, source: RawSplit, contents: list[NDArray[np.int64]] | None) -> Groups:
        """Return the groups that drawn splits do not divide: those of the source, or else copies of one image."""
        if source.groups is not None:
            return group_numbers(source.groups)
        return contents[0] if contents is not None and has_copies(contents[0]) else None

    def _task_classes(self, class_names: tuple[str, ...]) -> list[int]:
        """Return the indices of the classes that are not in `ood_classes`."""
        num_classes, excluded = len(class_names), set(self.ood_classes or ())
        classes = [index for index in range(num_classes) if index not in excluded]
        if not excluded <= set(range(num_classes)) or len(classes) < 2:
            raise UserError(
                f"dataset.ood_classes: must be class indices from 0 to {num_classes - 1} that leave at least two classes, "
                f"but got {self.ood_classes}"
            )
        return classes

    def _hold_out_test(self, train: RawSplit, groups: Groups, rows: Rows, stream: Stream) -> tuple[Rows, Rows]:
        """Return training and test rows of a source without a test split."""
        kind = target_kind(train.targets)
        if train.noisy_targets is not None and not kind.dense:
            raise UserError("dataset: a source with noisy labels needs a clean test split; download it as well")
        strata, undivided = kind.strata(train.targets)[rows], None if groups is None else groups[rows]
        held_out = hold_out(strata, undivided, self.test_fraction, stream, True, not kind.dense)
        return rows[~held_out], rows[held_out]

    def _hold_out_validation(self, train: RawSplit, groups: Groups, rows: Rows, stream: Stream) -> tuple[Rows, Rows]:
        """Return training and validation rows."""
        if train.validation_mask is None:
            undivided = None if groups is None else groups[rows]
            is_class = not target_kind(train.targets).dense
            held_out = hold_out(
                stratify_by(train)[rows],
                undivided,
                self.validation_fraction,
                stream,
                required=False,
                keep_classes=is_class,
            )
        else:
            held_out = train.validation_mask[rows]
        return rows[~held_out], rows[held_out]

    def _validation_notes(self, source: RawSplit, groups: Groups, rows: Rows) -> tuple[ReadingNote, ...]:
        """Return a note if a validation split was wanted, and every group is too large for it."""
        if groups is None or source.validation_mask is not None or not self.validation_fraction or len(rows):
            return ()
        text = "No validation split was drawn, because each group is larger than dataset.validation_fraction"
        return (ReadingNote("no_validation", text, len(np.unique(groups))),)

    def _check_not_empty(self, splits: Mapping[str, Rows], count: int) -> None:
        """Refuse splits without examples.

        Raises:
            UserError: a split has none of the ``count`` examples of the source.
        """
        for name, rows in splits.items():
            if not len(rows):
                raise UserError(
                    f"dataset: no {name} example is left of {count} examples; provide more, or change test_fraction, "
                    "validation_fraction, subset_range or ood_classes"
                )

    def _shifted_tests(self, test: Split, classes: list[int]) -> dict[str, Split]:
        splits = {}
        for name, raw in self.read_shifted_tests().items():
            splits[name] = take(remap_classes(raw, classes), rows_by_class(raw, classes)[0])
        for name in self.test_shifts or ():
            splits[name] = replace(test, inputs=apply_shift(name, test.inputs[:]))
        return splits
