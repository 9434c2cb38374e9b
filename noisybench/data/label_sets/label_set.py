"""Label sets: the output of a noise model for a dataset, with a manifest that pins every byte of it.

Two runs are comparable only on the same label set. A label set is stored in a folder (see `label_files`): classes in
`labels.parquet` or `labels.csv`, masks and traces in `masks.npz`, replaced images in `images.npz`, and `manifest.json`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.manifest import FORMAT
from noisybench.data.label_sets.statistics import mask_statistics
from noisybench.data.labels.verification import Verification, without
from noisybench.data.labels.votes import Votes
from noisybench.data.masks.objects import object_statistics
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import (
    CLEAN,
    IN_DISTRIBUTION,
    TOKEN_CORRECT,
    TOKEN_UNKNOWN,
    UNKNOWN_STATUS,
    TargetKind,
    Targets,
    target_kind,
)
from noisybench.errors import UserError

SPLITS = ("train", "validation")
"""Splits whose labels a label set holds."""


@dataclass(frozen=True)
class ReplacedImages:
    """Out-of-distribution images that replace images of a split.

    Attributes:
        rows: (K,) int64 positions in the split, ascending.
        images: (K, C, H, W) uint8.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSet:
    """Observed targets of the training and validation split, and their manifest.

    Examples without an observed label are not trained on: `apply_to` leaves them out, and the arrays here hold the
    others only.

    Attributes:
        train: (N,) int64 observed classes, (N, H, W) uint8 masks or (N, T) tokens.
        validation: observed targets of the validation split.
        manifest: `sha256` over the observed targets, the dataset, the noise model with its parameters, convention and
            seed, nominal and actual noise rate, transition counts (None for traces), the matrix of transitions if there is
            one, for masks their IoU (`masks`) and the fate of instances (`objects`).
        replaced: replaced images by split, for noise that also changes images.
        error_spans: for traces, by split, the position in `TOKEN_STATUS` of each character of the observed response.
        unlabeled: by split, (K,) int64 positions of its examples without an observed label, ascending.
        votes: labels of several annotators, if the observed ones were chosen from them.
        notes: facts about the reading of labels that a user should know.
        verification: labels that people have verified, which then are the clean ones.

    Examples:
        >>> from noisybench.data.dataset import Split
        >>> images = np.zeros((4, 1, 8, 8), dtype=np.uint8)
        >>> split = Split(images, targets=np.array([0, 0, 1, 1]), index=np.arange(4))
        >>> dataset = Dataset("toy", split, split, split, ("cat", "dog"), source_size=4)
        >>> from noisybench.data.label_sets.manifest import noise_entry
        >>> noise = noise_entry("by hand", "labels of the author")
        >>> labels = make_label_set(dataset, np.array([0, 1, 1, 1]), split.targets, noise, None)
        >>> labels.manifest["actual_noise_rate"], labels.manifest["transition_counts"]
        (0.25, [[1, 1], [0, 2]])
        >>> labels.label_status(dataset.train.targets)
        array([0, 1, 0, 0], dtype=int8)
    """

    train: Targets
    validation: Targets
    manifest: dict[str, Any]
    replaced: Mapping[str, ReplacedImages] = field(default_factory=dict)
    error_spans: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    unlabeled: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    votes: Votes | None = None
    notes: tuple[ReadingNote, ...] = ()
    verification: Verification | None = None

    @functools.cached_property
    def target_kind(self) -> TargetKind:
        """Kind of the targets: classes, masks or tokens."""
        return target_kind(self.train)

    def label_status(self, clean: Targets) -> NDArray[np.int8]:
        """Return the status of the observed training targets as positions in `LABEL_STATUS`.

        Args:
            clean: clean training targets; for traces, `error_spans` decides instead if the noise model gives them.
        """
        if "train" not in self.error_spans:
            return self.target_kind.label_status(clean, self.train)
        spans = self.error_spans["train"]
        # A character can equal the clean one by position and still be incorrect, so spans decide, not equality.
        status = np.where(spans == TOKEN_CORRECT, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        status[(spans == TOKEN_UNKNOWN) | ~self.target_kind.is_labeled(self.train)] = UNKNOWN_STATUS
        return status

    @property
    def hash(self) -> str:
        """SHA-256 over the observed targets, the replaced images and the dataset they belong to."""
        return str(self.manifest["sha256"])

    def apply_to(self, dataset: Dataset) -> Dataset:
        """Return the dataset as it is trained on.

        Replaced images have targets `OOD_TARGET` and verified examples their verified class; unlabeled examples are left out.
        """
        applied = with_clean_targets(dataset, self.replaced, self.verification)
        for name, rows in self.unlabeled.items():
            labeled: dict[str, Any] = {name: without(getattr(applied, name), rows)}
            applied = replace(applied, **labeled)
        return applied

    def observed(self, name: str) -> Targets:
        """Return the observed targets of all examples of a split, without a label those that are left out of training."""
        labels: Targets = getattr(self, name)
        if name not in self.unlabeled:
            return labels
        rows = self.unlabeled[name]
        shape = (len(labels) + len(rows), *labels.shape[1:])
        everything = np.full(shape, self.target_kind.no_label, dtype=labels.dtype)
        everything[np.delete(np.arange(len(everything)), rows)] = labels
        return everything


def unlabeled_rows(observed: Mapping[str, Targets]) -> dict[str, NDArray[np.int64]]:
    """Return the positions of examples without an observed label, for each split that has some.

    Example:
        >>> unlabeled_rows({"train": np.array([0, -2, 1]), "validation": np.array([1])})
        {'train': array([1])}
    """
    kept_apart = {name: labels for name, labels in observed.items() if target_kind(labels).leaves_out_unlabeled}
    rows = {name: np.flatnonzero(~target_kind(labels).is_annotated(labels)) for name, labels in kept_apart.items()}
    return {name: missing for name, missing in rows.items() if len(missing)}


def with_replaced(dataset: Dataset, replaced: Mapping[str, ReplacedImages]) -> Dataset:
    """Return the dataset with other images in its training and validation split."""
    splits = {
        name: getattr(dataset, name).with_ood_images(images.rows, images.images) for name, images in replaced.items()
    }
    return replace(dataset, **splits) if splits else dataset


def with_clean_targets(
    dataset: Dataset, replaced: Mapping[str, ReplacedImages], verification: Verification | None
) -> Dataset:
    """Return the dataset with the targets by which a label set is evaluated, and its replaced images."""
    applied = with_replaced(dataset, replaced)
    return applied if verification is None else verification.apply_to(applied)


def observed_hash(
    train: Targets,
    validation: Targets,
    dataset_hash: str,
    replaced: Mapping[str, ReplacedImages] | None = None,
    verification: Verification | None = None,
) -> str:
    """Return the SHA-256 over the dataset hash, the observed targets, the replaced images and the verified labels.

    Classes are hashed as little-endian int64, masks and tokens as bytes; the training split precedes the validation
    split.
    """
    kind = target_kind(train)
    digest = hashlib.sha256(dataset_hash.encode())
    for observed in (train, validation):
        # The length separates the splits: the same labels divided elsewhere have another hash.
        digest.update(len(observed).to_bytes(8, "little"))
        digest.update(kind.to_canonical_bytes(observed))
    # In the fixed order of the splits, because the order of a mapping is that of its construction.
    for name in SPLITS:
        if replaced and name in replaced:
            digest.update(replaced[name].rows.astype("<i8").tobytes())
            digest.update(replaced[name].images.tobytes())
    if verification is not None:
        digest.update(verification.hash.encode())
    return digest.hexdigest()


def rows_hash(splits: Iterable[tuple[NDArray[np.int64], Targets]]) -> str:
    """Return the SHA-256 over the source rows and clean targets, (index, clean) for each split."""
    digest = hashlib.sha256()
    for index, clean in splits:
        digest.update(index.astype("<i8").tobytes())
        digest.update(target_kind(clean).to_canonical_bytes(clean))
    return digest.hexdigest()


def error_spans_hash(error_spans: Mapping[str, NDArray[np.uint8]]) -> str:
    """Return the SHA-256 over the error spans of both splits."""
    return hashlib.sha256(b"".join(error_spans[name].tobytes() for name in SPLITS)).hexdigest()


def make_label_set(
    dataset: Dataset,
    train: Targets,
    validation: Targets,
    noise: dict[str, Any],
    matrix: NDArray[np.float64] | None,
    replaced: Mapping[str, ReplacedImages] | None = None,
    error_spans: Mapping[str, NDArray[np.uint8]] | None = None,
    votes: Votes | None = None,
    notes: tuple[ReadingNote, ...] = (),
    verification: Verification | None = None,
) -> LabelSet:
    """Return a label set of observed targets, with their manifest.

    Args:
        dataset: the dataset they belong to.
        train: observed training targets; `TargetKind.no_label` for examples without an observed label.
        validation: observed validation targets, likewise.
        noise: description of the noise model, from `manifest.noise_entry`.
        matrix: (C, C) transition probabilities, if the noise depends on the class alone.
        replaced: replaced images by split.
        error_spans: for traces, error spans by split.
        votes: labels of several annotators, if the observed ones were chosen from them.
        notes: facts about the reading of labels.
        verification: labels that people have verified.

    Raises:
        UserError: no training example has an observed label.

    Examples:
        See `LabelSet`.
    """
    replaced, error_spans = replaced or {}, error_spans or {}
    # Statistics are relative to the data that is trained on, but `dataset.hash` stays that of the original data.
    applied = with_clean_targets(dataset, replaced, verification)
    clean = (applied.train.targets, applied.validation.targets)
    index = (dataset.train.index, dataset.validation.index)
    manifest = {
        "format": FORMAT,
        "sha256": observed_hash(train, validation, dataset.hash, replaced, verification),
        "rows_sha256": rows_hash(zip(index, clean, strict=True)),
        "dataset": dataset_entry(dataset),
        "noise": noise,
        **label_statistics(clean, (train, validation), dataset.num_classes, dataset.has_background),
        **object_statistics(applied.train.instances, clean[0], train, dataset.has_background),
        "transition_matrix": None if matrix is None else matrix.tolist(),
    }
    if error_spans:
        manifest["error_spans_sha256"] = error_spans_hash(error_spans)
    if votes is not None:
        manifest["votes_sha256"] = votes.hash
    if verification is not None:
        manifest["verification"] = verification.statistics
    return label_set_of(train, validation, manifest, replaced, error_spans, votes, notes, verification)


def label_set_of(
    train: Targets,
    validation: Targets,
    manifest: dict[str, Any],
    replaced: Mapping[str, ReplacedImages],
    error_spans: Mapping[str, NDArray[np.uint8]],
    votes: Votes | None,
    notes: tuple[ReadingNote, ...] = (),
    verification: Verification | None = None,
) -> LabelSet:
    """Return the label set of a manifest; examples without an observed label are set apart.

    Args:
        train: observed training targets; `TargetKind.no_label` for examples without an observed label.
        validation: observed validation targets, likewise.
        manifest: manifest of these targets.
        replaced: replaced images by split.
        error_spans: for traces, error spans by split.
        votes: labels of several annotators.
        notes: facts about the reading of labels.
        verification: labels that people have verified.

    Raises:
        UserError: no training example has an observed label.
    """
    unlabeled = unlabeled_rows({"train": train, "validation": validation})
    if len(unlabeled.get("train", ())) == len(train):
        raise UserError("noise: no training example has a label; provide labels for some of them")
    train, validation = (
        np.delete(observed, unlabeled[name], axis=0) if name in unlabeled else observed
        for name, observed in (("train", train), ("validation", validation))
    )
    return LabelSet(train, validation, manifest, replaced, error_spans, unlabeled, votes, notes, verification)


def dataset_entry(dataset: Dataset) -> dict[str, Any]:
    """Return the entry of a manifest that describes a dataset."""
    entry: dict[str, Any] = {
        "name": dataset.name,
        "sha256": dataset.hash,
        "classes": list(dataset.class_names),
        "sizes": {name: len(getattr(dataset, name)) for name in (*SPLITS, "test")},
    }
    if dataset.skipped_files:
        entry["skipped_files"] = list(dataset.skipped_files)
    if not dataset.has_background:
        entry["background"] = False
    return entry


def label_statistics(
    clean: tuple[Targets, Targets], observed: tuple[Targets, Targets], num_classes: int, has_background: bool = True
) -> dict[str, Any]:
    """Return the manifest entries that follow from clean and observed targets.

    Args:
        clean: clean targets of the training and the validation split.
        observed: observed targets of both.
        num_classes: number of classes C.
        has_background: class 0 of masks is the background.
    """
    kind = target_kind(clean[0])
    unlabeled = unlabeled_rows(dict(zip(SPLITS, observed, strict=True)))
    entry: dict[str, Any] = {"unlabeled": {name: len(unlabeled.get(name, ())) for name in SPLITS}} if unlabeled else {}
    rows = [unlabeled.get(name, np.empty(0, np.int64)) for name in SPLITS]
    clean, observed = (
        (np.delete(first, rows[0], axis=0), np.delete(second, rows[1], axis=0)) if unlabeled else (first, second)
        for first, second in (clean, observed)
    )
    counts = kind.transition_counts(clean[0], observed[0], num_classes) if kind.counts_transitions else None
    if counts is not None:
        entry |= kind.extra_statistics(clean[0], observed[0], counts)
    if counts is not None and not has_background:
        entry["masks"] = mask_statistics(counts, has_background=False)
    return {
        "actual_noise_rate": kind.actual_noise_rate(clean[0], observed[0]),
        "actual_noise_rate_validation": kind.actual_noise_rate(clean[1], observed[1]),
        "transition_counts": None if counts is None else counts.tolist(),
        **entry,
    }
