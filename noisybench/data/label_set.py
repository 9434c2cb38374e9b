"""Label sets: what a noise model made of a dataset, with a manifest that pins every byte of it.

Two runs are comparable only on the same label set. A label set lives in a folder as `labels.parquet` or
`labels.csv` (columns split, index, clean, observed), masks as `masks.npz` (arrays of these names), and `manifest.json`; where
images were replaced, they lie beside them in `images.npz`. A clean target of -1 says that the image is of none of the
classes, -2 that nobody knows; 255 in a mask that nobody has labelled the pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_statistics import mask_statistics, transition_counts
from noisybench.data.targets import OOD_TARGET, UNKNOWN, Targets, is_labeled, to_canonical_bytes

TOKEN_STATUS = ("correct", "corrupted", "propagated")
"""Status of a character in an observed trace: unchanged, part of an error, or a consequence of an earlier error.

`TOKEN_UNKNOWN` marks characters of unknown status.
"""

TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED = range(len(TOKEN_STATUS))
TOKEN_UNKNOWN = 255

LABEL_STATUS = ("clean", "in_distribution", "out_of_distribution", "unknown")
"""What an example's observed label can be: right, of another class, on an image of no class, or nobody knows."""

CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, UNKNOWN_STATE = range(len(LABEL_STATUS))


def label_status(clean: Targets, observed: Targets) -> NDArray[np.int8]:
    """Positions in `LABEL_STATUS` from clean and observed targets of the same shape; of pixels without either nobody knows."""
    if clean.dtype == np.uint8:
        states = np.where(clean == observed, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        states[~(is_labeled(clean) & is_labeled(observed))] = UNKNOWN_STATE
        return states
    states = np.where(clean == observed, CLEAN, IN_DISTRIBUTION)
    states = np.where(clean == OOD_TARGET, OUT_OF_DISTRIBUTION, states)
    return np.where(clean == UNKNOWN, UNKNOWN_STATE, states).astype(np.int8)


@dataclass(frozen=True)
class ReplacedImages:
    """Images of none of the classes, put in place of a split's own.

    Attributes:
        rows: (K,) int64 positions in the split, ascending.
        images: (K, C, H, W) uint8.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSet:
    """Observed targets of the training and validation split, and their manifest.

    Attributes:
        train: (N,) int64 observed targets, or (N, H, W) uint8 masks.
        validation: (M,) int64 observed targets, or (M, H, W) uint8 masks.
        manifest: `sha256` over the observed targets, dataset, noise model with its parameters, convention and
            seed, nominal and realised rate, transition counts and the transition matrix where one was used; of masks also
            what is left of every class (`masks`).
        replaced: replaced images by split, for noise that changes images as well.
        error_spans: of traces by split, what each character of the observed response is; see `TOKEN_STATUS`.
    """

    train: Targets
    validation: Targets
    manifest: dict[str, Any]
    replaced: Mapping[str, ReplacedImages] = field(default_factory=dict)
    error_spans: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def label_status(self, clean: Targets) -> NDArray[np.int8]:
        """Positions in `LABEL_STATUS` of the training targets, from the clean ones; of traces as the noise model told."""
        if "train" not in self.error_spans:
            return label_status(clean, self.train)
        events = self.error_spans["train"]
        states = np.where(events == TOKEN_CORRECT, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        states[(events == TOKEN_UNKNOWN) | ~is_labeled(self.train)] = UNKNOWN_STATE
        return states

    @property
    def hash(self) -> str:
        """SHA-256 over the observed targets, the replaced images and the dataset they belong to."""
        return str(self.manifest["sha256"])

    def apply_to(self, dataset: Dataset) -> Dataset:
        """The dataset as it is trained on: with the replaced images, whose targets are `OOD_TARGET`."""
        return with_replaced(dataset, self.replaced)


def with_replaced(dataset: Dataset, replaced: Mapping[str, ReplacedImages]) -> Dataset:
    """The dataset with other images in its training and validation split."""
    changed = {name: getattr(dataset, name).with_ood_images(each.rows, each.images) for name, each in replaced.items()}
    return replace(dataset, **changed) if changed else dataset


def observed_hash(
    train: Targets,
    validation: Targets,
    dataset_hash: str,
    replaced: Mapping[str, ReplacedImages] | None = None,
) -> str:
    """SHA-256 over the dataset hash, the observed targets and the replaced images.

    Numbers are little-endian int64, masks bytes; the training split comes before the validation split.
    """
    digest = hashlib.sha256(dataset_hash.encode())
    for part in (train, validation):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(to_canonical_bytes(part))
    for name in ("train", "validation"):
        if replaced and name in replaced:
            digest.update(replaced[name].rows.astype("<i8").tobytes())
            digest.update(replaced[name].images.tobytes())
    return digest.hexdigest()


def index_hash(*arrays: Targets) -> str:
    """SHA-256 over which rows the labels belong to and what they are held against."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(to_canonical_bytes(array))
    return digest.hexdigest()


def make_label_set(
    dataset: Dataset,
    train: Targets,
    validation: Targets,
    noise: dict[str, Any],
    matrix: NDArray[np.float64] | None,
    replaced: Mapping[str, ReplacedImages] | None = None,
    error_spans: Mapping[str, NDArray[np.uint8]] | None = None,
) -> LabelSet:
    """Attach the manifest to observed targets.

    Args:
        dataset: what they belong to.
        train: (N,) observed training targets.
        validation: (M,) observed validation targets.
        noise: name, parameters, convention and nominal_rate of the noise model.
        matrix: (C, C) transition probabilities that were used, if the noise depends on the class alone.
        replaced: replaced images by split.
        error_spans: of traces, by split.
    """
    replaced, error_spans = replaced or {}, error_spans or {}
    applied = with_replaced(dataset, replaced)
    clean, clean_validation = applied.train.targets, applied.validation.targets
    manifest = {
        "format": 1,
        "sha256": observed_hash(train, validation, dataset.hash, replaced),
        "rows_sha256": index_hash(dataset.train.index, clean, dataset.validation.index, clean_validation),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.hash,
            "classes": list(dataset.class_names),
            "sizes": {"train": len(train), "validation": len(validation), "test": len(dataset.test)},
        },
        "noise": noise,
        **_measured(clean, train, clean_validation, validation, dataset.num_classes),
        "transition_matrix": None if matrix is None else matrix.tolist(),
    }
    if dataset.skipped:
        manifest["dataset"]["skipped"] = list(dataset.skipped)
    if error_spans:
        manifest["events_sha256"] = index_hash(error_spans["train"], error_spans["validation"])
    return LabelSet(train, validation, manifest, replaced, error_spans)


def _measured(
    clean: Targets,
    train: Targets,
    clean_validation: Targets,
    validation: Targets,
    num_classes: int,
) -> dict[str, Any]:
    counts = transition_counts(clean, train, num_classes)
    measured = {
        "actual_noise_rate": _rate(clean, train),
        "actual_noise_rate_validation": _rate(clean_validation, validation),
        "transition_counts": counts.tolist(),
    }
    if clean.ndim == 3:
        measured["masks"] = mask_statistics(counts)
    elif clean.ndim == 1 and (clean < 0).any():
        counts = np.bincount(label_status(clean, train), minlength=len(LABEL_STATUS))
        measured["label_status"] = dict(zip(LABEL_STATUS, counts.tolist(), strict=True))
        measured["ood_counts"] = np.bincount(train[clean == OOD_TARGET], minlength=num_classes).tolist()
    return measured


def _rate(clean: Targets, observed: Targets) -> float | None:
    """Share of wrong labels among those of which it is known; an image of no class has a wrong one."""
    counted = is_labeled(clean) & is_labeled(observed) if clean.ndim > 1 else clean != UNKNOWN
    return float(np.mean(clean[counted] != observed[counted])) if counted.any() else None
