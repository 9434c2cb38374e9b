"""Labels that people have verified: the given and the verified class or mask of each example that they decided on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.lazy import MemmapImages
from noisybench.data.targets import Targets, target_kind

SPLITS = ("train", "validation", "test")
"""Splits in which labels can be verified."""

ACCEPT, RELABEL, KEEP, EXCLUDE, UNSURE = "accept", "relabel", "keep", "exclude", "unsure"

RECORDED = (ACCEPT, RELABEL, KEEP, EXCLUDE)
"""Decisions that a label set records; `unsure` changes nothing."""


@dataclass(frozen=True)
class VerifiedRows:
    """Verified examples of one split, in the order of their rows.

    Attributes:
        index: (K,) int64 row of each example in the source of its split.
        given: (K,) int64 classes or (K, H, W) uint8 masks before they were verified; without a label if they had none.
        verified: verified classes or masks; without a label for an example that was excluded.
        decision: (K,) int64 position in `RECORDED`.
    """

    index: NDArray[np.int64]
    given: Targets
    verified: Targets
    decision: NDArray[np.int64]

    @property
    def has_label(self) -> NDArray[np.bool_]:
        """(K,) False for examples that were excluded."""
        return target_kind(self.verified).is_annotated(self.verified)

    @property
    def is_corrected(self) -> NDArray[np.bool_]:
        """(K,) True for examples whose given label or mask was incorrect."""
        differs = (self.given != self.verified).any(axis=tuple(range(1, self.given.ndim)))
        return np.asarray(differs & self.has_label)

    def positions(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the positions of the examples in a split, and a (K,) mask of those that it has."""
        order = np.argsort(split.index, kind="stable")
        places = np.searchsorted(split.index[order], self.index)
        inside = places < len(order)
        positions = order[np.where(inside, places, 0)] if len(order) else np.zeros(len(self.index), np.int64)
        inside[inside] = split.index[positions[inside]] == self.index[inside]
        return positions[inside], inside


@dataclass(frozen=True)
class Verification:
    """Labels that people have verified.

    Where an example is verified, its clean target is the verified class or mask.

    Attributes:
        rows: verified examples of each split that has some.
        of_dataset: True if the labels that people looked at are the dataset's own, so that the clean targets of all other
            training and validation examples are unknown; False if the dataset has clean targets beside them.

    Examples:
        >>> images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
        >>> split = Split(images, targets=np.array([0, 1, 1]), index=np.array([4, 2, 7]))
        >>> dataset = Dataset("toy", split, split, split, ("cat", "dog"), source_size=8)
        >>> rows = VerifiedRows(np.array([2, 7]), np.array([1, 1]), np.array([0, -2]), np.array([0, 3]))
        >>> verification = Verification({"train": rows}, of_dataset=True)
        >>> verification.apply_to(dataset).train.targets
        array([-2,  0, -2])
        >>> verification.statistics["train"]
        {'verified': 1, 'incorrect': 1, 'excluded': 1}
    """

    rows: Mapping[str, VerifiedRows]
    of_dataset: bool

    @property
    def hash(self) -> str:
        """SHA-256 over all decisions and the meaning of other targets."""
        digest = hashlib.sha256(str(self.of_dataset).encode())
        for name in SPLITS:
            if name in self.rows:
                digest.update(name.encode())
                rows = self.rows[name]
                kind = target_kind(rows.given)
                digest.update(rows.index.astype("<i8").tobytes())
                for labels in (rows.given, rows.verified):
                    digest.update(kind.to_canonical_bytes(labels))
                digest.update(rows.decision.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def statistics(self) -> dict[str, Any]:
        """Number of verified, incorrect and excluded labels of each split, and whether they are the dataset's own."""
        counts = {
            name: {
                "verified": int(rows.has_label.sum()),
                "incorrect": int(rows.is_corrected.sum()),
                "excluded": int((~rows.has_label).sum()),
            }
            for name, rows in self.rows.items()
        }
        return {"sha256": self.hash, "of_dataset": self.of_dataset, **counts}

    def apply_to(self, dataset: Dataset) -> Dataset:
        """Return the dataset with verified classes or masks as targets.

        Excluded examples leave the test split; in the others they have no known target, and their label set has no
        observed label for them. Test examples that are not verified keep their targets.
        """
        # Shifted copies have the examples of the test split.
        shifted = {
            name: self._verify("test", split) if np.array_equal(split.index, dataset.test.index) else split
            for name, split in dataset.shifted_tests.items()
        }
        return replace(
            dataset,
            train=self._verify("train", dataset.train),
            validation=self._verify("validation", dataset.validation),
            test=self._verify("test", dataset.test),
            shifted_tests=shifted,
        )

    def observed(self, name: str, split: Split, given: Targets) -> Targets:
        """Return the given labels of a split with the verified ones in their place, none where excluded."""
        labels = given.copy()
        if name in self.rows:
            positions, inside = self.rows[name].positions(split)
            labels[positions] = self.rows[name].verified[inside]
        return labels

    def is_verified(self, name: str, split: Split) -> NDArray[np.bool_]:
        """Return an (N,) mask of the examples of a split that have a verified label."""
        mask = np.zeros(len(split), dtype=bool)
        if name in self.rows:
            positions, inside = self.rows[name].positions(split)
            mask[positions] = self.rows[name].has_label[inside]
        return mask

    def given(self, name: str, split: Split, observed: Targets) -> Targets:
        """Return the observed labels of a split with the given one wherever a label was verified.

        Args:
            name: name of the split.
            split: the split.
            observed: observed labels; those of excluded examples do not change.
        """
        labels = observed.copy()
        if name in self.rows:
            rows = self.rows[name]
            positions, inside = rows.positions(split)
            verified = rows.has_label[inside]
            labels[positions[verified]] = rows.given[inside][verified]
        return labels

    def _verify(self, name: str, split: Split) -> Split:
        targets = split.targets.copy()
        if self.of_dataset and name != "test":
            targets[:] = target_kind(targets).no_label
        if name not in self.rows:
            return replace(split, targets=targets)
        rows = self.rows[name]
        positions, inside = rows.positions(split)
        targets[positions] = rows.verified[inside]
        if name != "test":
            return replace(split, targets=targets)
        return without(replace(split, targets=targets), positions[~rows.has_label[inside]])


def without(split: Split, rows: NDArray[np.int64]) -> Split:
    """Return a split without some of its rows, given by their positions."""
    kept = np.delete(np.arange(len(split)), rows)
    noisy_targets = None if split.noisy_targets is None else split.noisy_targets[kept]
    return replace(
        split,
        inputs=split.inputs.subset(kept) if isinstance(split.inputs, MemmapImages) else split.inputs[kept],
        targets=split.targets[kept],
        index=split.index[kept],
        noisy_targets=noisy_targets,
        fields=tuple(split.fields[row] for row in kept.tolist()) if split.fields else (),
        instances=None if split.instances is None else split.instances[kept],
    )


def merge(earlier: Verification | None, later: Verification) -> Verification:
    """Return the decisions of two verifications; where both have an example, the later class beside the earlier given one.

    Example:
        >>> first = VerifiedRows(np.array([1]), np.array([0]), np.array([1]), np.array([0]))
        >>> second = VerifiedRows(np.array([1, 5]), np.array([1, 0]), np.array([2, 0]), np.array([1, 2]))
        >>> rows = merge(Verification({"train": first}, True), Verification({"train": second}, True)).rows["train"]
        >>> rows.index, rows.given, rows.verified
        (array([1, 5]), array([0, 0]), array([2, 0]))
    """
    if earlier is None:
        return later
    merged = dict(earlier.rows)
    for name, rows in later.rows.items():
        before = earlier.rows.get(name)
        merged[name] = rows if before is None else _merge_rows(before, rows)
    return Verification({name: merged[name] for name in SPLITS if name in merged}, earlier.of_dataset)


def _merge_rows(before: VerifiedRows, after: VerifiedRows) -> VerifiedRows:
    _, first, second = np.intersect1d(before.index, after.index, assume_unique=True, return_indices=True)
    given = after.given.copy()
    given[second] = before.given[first]
    kept = ~np.isin(before.index, after.index)
    columns = zip(
        (before.index, before.given, before.verified, before.decision),
        (after.index, given, after.verified, after.decision),
        strict=True,
    )
    joined = [np.concatenate([first[kept], second]) for first, second in columns]
    order = np.argsort(joined[0], kind="stable")
    return VerifiedRows(*(column[order] for column in joined))
