"""Kinds of targets: classes of examples, classes of pixels, and tokens of sequences.

Targets are plain NumPy arrays. Everything that depends on their kind (which entries have a label, how splits are
balanced, how label noise is measured) is a method of a stateless `TargetKind`, which `Dataset.target_kind` and
`LabelSet.target_kind` give.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.data.label_sets.statistics import mask_statistics
from noisybench.errors import UserError

OOD_TARGET = -1
"""Target of an out-of-distribution example, which belongs to none of the classes."""

UNKNOWN_TARGET = -2
"""Target of an example whose class is unknown."""

IGNORED = 255
"""Value of a pixel without a label, and of positions after the end of a sequence; excluded from every statistic."""

LABEL_STATUS = ("clean", "in_distribution", "out_of_distribution", "unknown")
"""Status of an observed label: correct, mislabeled, on an out-of-distribution example, or unknown."""

CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, UNKNOWN_STATUS = range(len(LABEL_STATUS))

TOKEN_STATUS = ("correct", "corrupted", "propagated")
"""Status of a character of an observed trace: unchanged, corrupted itself, or computed from corrupted ones."""

TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED = range(len(TOKEN_STATUS))

TOKEN_UNKNOWN = 255
"""Status of a character of which it is unknown whether it is correct."""

CHUNK_SIZE = 1024
"""Number of masks that are counted at a time."""

Targets = NDArray[Any]
"""(N,) int64 classes of examples, (N, H, W) uint8 classes of pixels, or (N, T) tokens of sequences."""

Shape = tuple[int, ...]

Tokens = NDArray[Any]
"""(N, T) tokens, uint8 if their vocabulary is small, and `IGNORED` after the end of a sequence in any type."""


class TargetKind(abc.ABC):
    """Operations that depend on the kind of targets.

    Examples:
        >>> target_kind(np.array([3, -1, -2])).is_labeled(np.array([3, -1, -2]))
        array([ True, False, False])
        >>> target_kind(np.zeros((2, 8, 8), dtype=np.uint8)).name
        'masks'
    """

    name: ClassVar[str]
    dtype: ClassVar[type[np.generic] | None]
    """Type in label sets and training; None if each dataset has its own."""
    dense: ClassVar[bool]
    """True if one example has many labels, as masks and token sequences have."""
    no_label: ClassVar[int]
    """Value in place of a label that is missing or unknown."""
    counts_transitions: ClassVar[bool] = True
    """False if the classes are so many, and so alike, that counts of their confusions say nothing."""

    leaves_out_unlabeled: ClassVar[bool] = True
    """False if examples without a label stay in training, as traces do whose response was cut: they add nothing to the loss."""

    @abc.abstractmethod
    def is_labeled(self, targets: Targets) -> NDArray[np.bool_]:
        """Return a mask in the shape of ``targets``: True where the class is known."""

    def is_annotated(self, targets: Targets) -> NDArray[np.bool_]:
        """Return an (N,) mask: True for examples with at least one label, which out-of-distribution ones have."""
        # Without further axes, as of classes, nothing is reduced.
        return np.asarray((targets != self.no_label).any(axis=tuple(range(1, targets.ndim))))

    @abc.abstractmethod
    def to_canonical_bytes(self, targets: Targets) -> bytes:
        """Return the targets as bytes that are the same on every machine, for hashes."""

    @abc.abstractmethod
    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """Return the (N,) groups whose proportions a split preserves."""

    @abc.abstractmethod
    def has_class_in(self, targets: Targets, classes: list[int]) -> NDArray[np.bool_]:
        """Return an (N,) mask of the examples that belong to one of ``classes``."""

    @abc.abstractmethod
    def remap_classes(self, targets: Targets, classes: list[int]) -> Targets:
        """Return the targets with ``classes`` numbered from 0; any other class becomes `OOD_TARGET`."""

    @abc.abstractmethod
    def check(
        self, targets: Targets, noisy_targets: Targets | None, input_shape: Shape, num_classes: int, split: str
    ) -> None:
        """Check the targets of one split of a dataset.

        Args:
            targets: best known targets.
            noisy_targets: noisy labels that the dataset provides, if any.
            input_shape: shape of the inputs, (N, C, H, W).
            num_classes: number of classes C.
            split: name of the split in error messages.

        Raises:
            UserError: a target is out of range, or the shape does not fit the inputs.
        """

    @abc.abstractmethod
    def label_status(self, clean: Targets, observed: Targets) -> NDArray[np.int8]:
        """Return positions in `LABEL_STATUS`, in the shape of the targets."""

    def extra_statistics(self, clean: Targets, observed: Targets, counts: NDArray[np.int64]) -> dict[str, Any]:
        """Return manifest entries that exist for this kind of targets only.

        Args:
            clean: clean training targets.
            observed: observed training targets.
            counts: (C, C) transition counts of both.
        """
        return {}

    def actual_noise_rate(self, clean: Targets, observed: Targets) -> float | None:
        """Return the fraction of incorrect labels among those with a known status; None if there are none.

        A label on an out-of-distribution example counts as incorrect.
        """
        known = self.label_status(clean, observed) != UNKNOWN_STATUS
        return float(np.mean(clean[known] != observed[known])) if known.any() else None

    def transition_counts(self, clean: Targets, observed: Targets, num_classes: int) -> NDArray[np.int64]:
        """Count transitions between clean and observed classes.

        Returns:
            (C, C) counts: row is the clean class, column the observed one. Entries without a known class are excluded.

        Examples:
            >>> clean, observed = np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1])
            >>> ClassTargets().transition_counts(clean, observed, 2)
            array([[1, 1],
                   [0, 1]])
        """
        counts = np.zeros(num_classes**2, dtype=np.int64)
        # Pair numbers are int64, so all masks at once would need eight times their own memory.
        for start in range(0, len(clean), CHUNK_SIZE):
            rows, columns = clean[start : start + CHUNK_SIZE], observed[start : start + CHUNK_SIZE]
            counted = self.is_labeled(rows) & self.is_labeled(columns)
            pair = rows[counted].astype(np.int64) * num_classes + columns[counted]
            counts += np.bincount(pair, minlength=num_classes**2)
        return counts.reshape(num_classes, num_classes)


class ClassTargets(TargetKind):
    """(N,) int64 classes of examples; `OOD_TARGET` and `UNKNOWN_TARGET` may occur among them.

    Examples:
        >>> kind = ClassTargets()
        >>> clean, observed = np.array([0, 1, 1, -1]), np.array([0, 1, 0, 1])
        >>> [LABEL_STATUS[status] for status in kind.label_status(clean, observed)]
        ['clean', 'clean', 'in_distribution', 'out_of_distribution']
        >>> kind.actual_noise_rate(clean, observed)
        0.5
    """

    name = "classes"
    dtype = np.int64
    dense = False
    no_label = UNKNOWN_TARGET

    def is_labeled(self, targets: Targets) -> NDArray[np.bool_]:
        """Return an (N,) mask: True where the class is known."""
        return np.asarray(targets >= 0)

    def to_canonical_bytes(self, targets: Targets) -> bytes:
        """Return little-endian int64."""
        return targets.astype("<i8").tobytes()

    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """Return the classes."""
        return targets

    def has_class_in(self, targets: Targets, classes: list[int]) -> NDArray[np.bool_]:
        """Return an (N,) mask of the examples of ``classes``."""
        return np.isin(targets, classes)

    def remap_classes(self, targets: Targets, classes: list[int]) -> Targets:
        """Return the targets with ``classes`` numbered from 0; negative targets stay."""
        # A table of new class numbers: one lookup for all targets, and excluded classes become `OOD_TARGET`.
        numbers = np.full(max(int(targets.max(initial=0)), *classes) + 1, OOD_TARGET, dtype=np.int64)
        numbers[classes] = np.arange(len(classes))
        # Negative targets would index the table from its end, so they are clipped and then put back.
        return np.where(targets < 0, targets, numbers[np.maximum(targets, 0)])

    def check(
        self, targets: Targets, noisy_targets: Targets | None, input_shape: Shape, num_classes: int, split: str
    ) -> None:
        """Check that every label is in [0, C); the target beside a noisy label may be `OOD_TARGET` or `UNKNOWN_TARGET`."""
        labels = targets if noisy_targets is None else noisy_targets
        low, high = int(labels.min()), max(int(labels.max()), int(targets.max()))
        if low < 0 or high >= num_classes:
            raise UserError(
                f"dataset: {split} targets range from {low} to {high}, but {num_classes} classes allow 0 to "
                f"{num_classes - 1}"
            )

    def label_status(self, clean: Targets, observed: Targets) -> NDArray[np.int8]:
        """Return the (N,) status of each observed label."""
        # Later rules override earlier ones: on OOD and unknown examples equality means nothing.
        status = np.where(clean == observed, CLEAN, IN_DISTRIBUTION)
        status = np.where(clean == OOD_TARGET, OUT_OF_DISTRIBUTION, status)
        return np.where(clean == UNKNOWN_TARGET, UNKNOWN_STATUS, status).astype(np.int8)

    def extra_statistics(self, clean: Targets, observed: Targets, counts: NDArray[np.int64]) -> dict[str, Any]:
        """Return label counts by status and OOD counts by observed class, if not all examples have a known class."""
        # Only for data with unknown or OOD examples; elsewhere the transition counts say the same.
        if (clean >= 0).all():
            return {}
        sizes = np.bincount(self.label_status(clean, observed), minlength=len(LABEL_STATUS))
        ood_counts = np.bincount(observed[clean == OOD_TARGET], minlength=len(counts))
        return {
            "label_status": dict(zip(LABEL_STATUS, sizes.tolist(), strict=True)),
            "ood_counts": ood_counts.tolist(),
        }


class _DenseTargets(TargetKind):
    """Several labels for each example, with `IGNORED` where there is none."""

    dtype: ClassVar[type[np.generic] | None] = np.uint8
    dense = True
    no_label = IGNORED

    def is_labeled(self, targets: Targets) -> NDArray[np.bool_]:
        """Return a mask in the shape of the targets: False where they are `IGNORED`."""
        return np.asarray(targets != IGNORED)

    def to_canonical_bytes(self, targets: Targets) -> bytes:
        """Return the bytes as they are."""
        return targets.tobytes()

    def strata(self, targets: Targets) -> NDArray[np.int64]:
        """Return a single group, because an example has no class of its own."""
        return np.zeros(len(targets), dtype=np.int64)

    def has_class_in(self, targets: Targets, classes: list[int]) -> NDArray[np.bool_]:
        """Return True for every example."""
        return np.ones(len(targets), dtype=bool)

    def remap_classes(self, targets: Targets, classes: list[int]) -> Targets:
        """Return the targets unchanged."""
        return targets

    def check(
        self, targets: Targets, noisy_targets: Targets | None, input_shape: Shape, num_classes: int, split: str
    ) -> None:
        """Check that labels are in [0, C) or `IGNORED`, and that each example has at least one."""
        for labels in (targets, noisy_targets):
            if labels is not None:
                self._check_labels(labels, input_shape, num_classes, split)

    def _check_labels(self, labels: Targets, input_shape: Shape, num_classes: int, split: str) -> None:
        labeled = self.is_labeled(labels)
        # `where` avoids a copy of the labeled entries, which can be nearly as large as the masks.
        highest = int(labels.max(initial=0, where=labeled))
        if highest >= num_classes:
            raise UserError(
                f"dataset: {split} {self.name} have values up to {highest}, but {num_classes} classes allow 0 to "
                f"{num_classes - 1}, and {IGNORED} for no label"
            )
        empty = np.flatnonzero(~self.is_annotated(labels))
        if len(empty):
            raise UserError(
                f"dataset: {len(empty)} {split} examples have no label at all, the first in row {empty[0]}; remove them"
            )

    def label_status(self, clean: Targets, observed: Targets) -> NDArray[np.int8]:
        """Return the status of each label; unknown where one of both is missing."""
        status = np.where(clean == observed, np.int8(CLEAN), np.int8(IN_DISTRIBUTION))
        status[~(self.is_labeled(clean) & self.is_labeled(observed))] = UNKNOWN_STATUS
        return status


class MaskTargets(_DenseTargets):
    """(N, H, W) uint8 classes of pixels; `IGNORED` pixels have no label, and class 0 is the background.

    Examples:
        >>> kind = MaskTargets()
        >>> mask = np.array([[[0, 1], [1, 255]]], dtype=np.uint8)
        >>> int(kind.is_labeled(mask).sum())
        3
        >>> kind.actual_noise_rate(mask, np.array([[[0, 0], [1, 255]]], dtype=np.uint8))
        0.3333333333333333
    """

    name = "masks"

    def _check_labels(self, labels: Targets, input_shape: Shape, num_classes: int, split: str) -> None:
        if labels.shape != (input_shape[0], *input_shape[2:]):
            raise UserError(
                f"dataset: {split} images have the shape {tuple(input_shape)}, but their masks {labels.shape}; "
                "each pixel needs one label"
            )
        super()._check_labels(labels, input_shape, num_classes, split)

    def extra_statistics(self, clean: Targets, observed: Targets, counts: NDArray[np.int64]) -> dict[str, Any]:
        """Return the IoU and the area bias of the noisy masks."""
        return {"masks": mask_statistics(counts)}


class TokenTargets(_DenseTargets):
    """(N, T) tokens of sequences, `IGNORED` after the end.

    Tokens are uint8 if their vocabulary has few entries, and wider otherwise; `IGNORED` is the same in all types.

    Examples:
        >>> TokenTargets().is_labeled(np.array([[7, 300, 255]], dtype=np.int16))
        array([[ True,  True, False]])
    """

    name = "tokens"
    dtype = None
    leaves_out_unlabeled = False
    counts_transitions = False

    def to_canonical_bytes(self, targets: Targets) -> bytes:
        """Return uint8 as it is, and any wider type as little-endian int32."""
        return targets.tobytes() if targets.dtype == np.uint8 else targets.astype("<i4").tobytes()


_KINDS: dict[int, TargetKind] = {1: ClassTargets(), 2: TokenTargets(), 3: MaskTargets()}
"""Kind of targets by number of dimensions."""


def target_kind(targets: Targets) -> TargetKind:
    """Return the kind of some targets, which their number of dimensions decides.

    Examples:
        >>> target_kind(np.zeros(5, dtype=np.int64)).name
        'classes'
    """
    return _KINDS[targets.ndim]
