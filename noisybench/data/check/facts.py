"""Facts about a dataset: files, classes, splits, copies, masks and noisy labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.check.copies import CopyFacts, copy_facts, example_names, splits_of, training_labels
from noisybench.data.check.files import FileFacts, file_facts
from noisybench.data.check.pictures import Picture, example_pictures
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.notes import ReadingNote, merge_notes, reading_note
from noisybench.data.source import DatasetSource
from noisybench.data.targets import IGNORED, Targets
from noisybench.data.texts import is_text
from noisybench.utils.progress import report_progress

RARE_EXAMPLES = 10
"""Classes with fewer training examples are rare."""

RARE_SHARE = 0.05
"""Classes with a smaller number of training examples than this share of an average class are rare."""


@dataclass(frozen=True)
class ClassFacts:
    """Numbers of one class.

    Attributes:
        name: name of the class.
        counts: number of examples by split; of masks, number of images that show the class.
        pixel_share: share of the labeled training pixels, for masks.
    """

    name: str
    counts: Mapping[str, int]
    pixel_share: float | None = None


@dataclass(frozen=True)
class LabelFacts:
    """Quality of the labels, as far as the data themselves show it.

    Attributes:
        origin: where the noisy labels come from.
        noise_rate: share of noisy labels that differ from the clean ones beside them; None if that is unknown.
        by_class: the same for the examples of each clean class, by name.
        agreement: agreement of annotators by measure, if there were several.
    """

    origin: str
    noise_rate: float | None
    by_class: Mapping[str, float]
    agreement: Mapping[str, float]


@dataclass(frozen=True)
class DataReport:
    """Result of a check.

    Attributes:
        dataset: name of the dataset.
        files: files that are read; None if the data come from no files.
        skipped_files: reasons for files that were left out.
        shape: channels, height and width of the inputs; empty for texts.
        target_kind: ``classes``, ``masks`` or ``tokens``.
        splits: number of examples by split.
        classes: all classes in their order; empty for tokens.
        unlabeled_share: share of training pixels or tokens without a label, for masks and tokens.
        copies: exact copies within and across splits.
        labels: noisy labels beside clean ones, if there are any.
        notes: facts that a user should know.
        pictures: examples of each class, or images with the outlines of their masks.
    """

    dataset: str
    files: FileFacts | None
    skipped_files: tuple[str, ...]
    shape: tuple[int, ...]
    target_kind: str
    splits: Mapping[str, int]
    classes: tuple[ClassFacts, ...]
    unlabeled_share: float | None
    copies: tuple[CopyFacts, ...]
    labels: tuple[LabelFacts, ...]
    notes: tuple[ReadingNote, ...]
    pictures: tuple[Picture, ...]


def check_dataset(source: DatasetSource, noisy: LabelSet | None = None, default_size: int | None = None) -> DataReport:
    """Read a dataset and return facts about it.

    Args:
        source: the dataset with its parameters.
        noisy: labels of a noise model for it, whose quality is reported as well.
        default_size: side in pixels to which images of different sizes are resized if the dataset has no size; by default
            they are refused, as in a run.

    Raises:
        UserError: results on these data would be meaningless, or the data cannot be read.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> report = check_dataset(get_entry("datasets", "digits").load_class()())
        >>> report.splits["test"], report.classes[3].name, report.copies
        (449, '3', ())
    """
    files = _files(source)
    notes = _file_notes(files)
    if default_size and files and len(files.sizes) > 1 and source.parameters.get("size", default_size) is None:
        source = type(source)(**{**source.parameters, "size": default_size})
        text = (
            f"Images have several sizes and were resized to {default_size}x{default_size} pixels for this check; a run needs "
            "dataset.size"
        )
        notes += (ReadingNote("several_sizes", text, sum(files.sizes.values())),)
    dataset = source.load()
    report_progress("compare contents", 0, 1)
    copies = copy_facts(dataset)
    report_progress("compare contents", 1, 1)
    return DataReport(
        dataset.name,
        files,
        dataset.skipped_files,
        () if is_text(dataset.train.inputs) else tuple(dataset.train.inputs.shape[1:]),
        dataset.target_kind.name,
        {name: len(split) for name, split in splits_of(dataset).items()},
        class_facts(dataset),
        _unlabeled_share(dataset),
        copies,
        label_facts(dataset, noisy),
        merge_notes((*dataset.notes, *check_notes(dataset, copies), *notes)),
        example_pictures(dataset),
    )


def _files(source: DatasetSource) -> FileFacts | None:
    """Return facts about the files of a dataset; None if it has none, or lacks some, which its reader reports."""
    try:
        sources = source.data_files()
        return file_facts(sources.values()) if sources else None
    except FileNotFoundError:
        return None


def check_notes(dataset: Dataset, copies: tuple[CopyFacts, ...] | None = None) -> tuple[ReadingNote, ...]:
    """Return notes about a dataset beyond those of its reader.

    Args:
        dataset: the dataset.
        copies: its copies, if they have been found already.
    """
    reported = {note.kind for note in dataset.notes}
    notes: list[ReadingNote] = []
    for facts in copy_facts(dataset) if copies is None else copies:
        first, _, second = facts.where.partition(" and ")
        if second:
            text = f"Examples of the {second} split are exact copies of examples of the {first} split"
            notes.append(ReadingNote(f"copies_in_{second}", text, facts.count, facts.names))
        # Readers of own files report copies within the training split themselves.
        elif "copies" not in reported:
            text = f"Examples of the {first} split are exact copies of others"
            notes.append(ReadingNote("copies", text, facts.count, facts.names))
        if facts.other_labels and "copies_with_other_labels" not in reported:
            text = f"Exact copies ({facts.where}) have different labels"
            notes.append(ReadingNote("copies_with_other_labels", text, facts.other_labels))
    return (*notes, *_class_notes(dataset))


def class_facts(dataset: Dataset) -> tuple[ClassFacts, ...]:
    """Count the examples of each class, or the images that show it; tokens have no classes."""
    if dataset.target_kind.name == "tokens":
        return ()
    splits = splits_of(dataset)
    if dataset.target_kind.name == "classes":
        counts = {name: _class_counts(training_labels(split), dataset.num_classes) for name, split in splits.items()}
        return tuple(
            ClassFacts(class_name, {name: int(counts[name][index]) for name in splits})
            for index, class_name in enumerate(dataset.class_names)
        )
    shown = {name: _images_with(split, dataset.num_classes) for name, split in splits.items()}
    pixels = _class_counts(dataset.train.targets, dataset.num_classes)
    shares = pixels / max(1, pixels.sum())
    return tuple(
        ClassFacts(class_name, {name: int(shown[name][index]) for name in splits}, float(shares[index]))
        for index, class_name in enumerate(dataset.class_names)
    )


def label_facts(dataset: Dataset, noisy: LabelSet | None) -> tuple[LabelFacts, ...]:
    """Compare labels that come with the data, and those of a noise model, with the clean ones beside them."""
    found = []
    if dataset.train.noisy_targets is not None:
        found.append(_compare(dataset, dataset.train.noisy_targets, "labels of the source", {}))
    if noisy is not None:
        measured = noisy.manifest["noise"]["details"].get("agreement", {})
        agreement = {name: float(value) for name, value in measured.items() if value is not None}
        found.append(_compare(dataset, noisy.train, f"noise model {noisy.manifest['noise']['name']}", agreement))
    return tuple(found)


def _compare(dataset: Dataset, observed: Targets, origin: str, agreement: Mapping[str, float]) -> LabelFacts:
    kind, clean = dataset.target_kind, dataset.train.targets
    counts = kind.transition_counts(clean, observed, dataset.num_classes) if kind.name != "tokens" else None
    by_class = {}
    if counts is not None:
        totals = counts.sum(axis=1)
        by_class = {
            name: float(1 - counts[index, index] / totals[index])
            for index, name in enumerate(dataset.class_names)
            if totals[index]
        }
    return LabelFacts(origin, kind.actual_noise_rate(clean, observed), by_class, agreement)


def _class_counts(targets: Targets, num_classes: int) -> NDArray[np.int64]:
    """Count the entries of each class; others, such as pixels without a label, do not count."""
    if targets.dtype == np.uint8:
        values: NDArray[np.int64] = np.bincount(targets.ravel(), minlength=IGNORED + 1)[:num_classes]
        return values
    classes: NDArray[np.int64] = np.bincount(targets[targets >= 0].astype(np.int64), minlength=num_classes)
    return classes


def _images_with(split: Split, num_classes: int) -> NDArray[np.int64]:
    """Count the masks in which each class occurs."""
    counts = np.zeros(num_classes, dtype=np.int64)
    for mask in split.targets:
        counts += np.bincount(mask.ravel(), minlength=IGNORED + 1)[:num_classes] > 0
    return counts


def _unlabeled_share(dataset: Dataset) -> float | None:
    if not dataset.target_kind.dense:
        return None
    return float(1 - dataset.target_kind.is_labeled(dataset.train.targets).mean())


def _class_notes(dataset: Dataset) -> tuple[ReadingNote, ...]:
    """Return notes about rare classes, and about masks that show nothing or lack a class."""
    facts = class_facts(dataset)
    if not facts:
        return ()
    masks = dataset.target_kind.name == "masks"
    counts = np.array([each.counts["train"] for each in facts])
    average = counts.sum() / len(counts)
    rare = [
        f"{each.name} ({count})"
        for each, count in zip(facts, counts.tolist(), strict=True)
        if 0 < count < max(min(RARE_EXAMPLES, average / 2), RARE_SHARE * average)
    ]
    what = "training masks" if masks else "training examples"
    notes = reading_note("rare_classes", f"Classes have few {what}", rare)
    if masks:
        absent = [each.name for each in facts if each.counts["train"] == 0]
        notes += reading_note("classes_without_examples", "Classes occur in no training mask", absent)
    # Readers of image files report this themselves, of all splits.
    is_reported = any(note.kind == "blank" for note in dataset.notes)
    blank = np.empty(0, dtype=np.int64) if is_reported else _blank_rows(dataset.train)
    if len(blank):
        text = "Training images have the same value everywhere"
        notes += (ReadingNote("blank_images", text, len(blank), example_names(dataset, "train", blank)),)
    return notes


def _blank_rows(split: Split) -> NDArray[np.int64]:
    """Return the images of a single value in all channels and pixels; features are no images."""
    if split.inputs.shape[2:] == (1, 1) or len(split.inputs.shape) != 4:
        return np.empty(0, dtype=np.int64)
    found = []
    for start in range(0, len(split), 1024):
        flat = np.asarray(split.inputs[start : start + 1024]).reshape(min(1024, len(split) - start), -1)
        found.append(start + np.flatnonzero((flat == flat[:, :1]).all(axis=1)))
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _file_notes(files: FileFacts | None) -> tuple[ReadingNote, ...]:
    if files is None or len(files.spacings) < 2:
        return ()
    text = "Volumes differ in the distances of their voxels, so that a pixel shows different sizes"
    listed = [f"{spacing} ({count})" for spacing, count in files.spacings.items()]
    return reading_note("different_spacings", text, listed)
