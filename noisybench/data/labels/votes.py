"""Labels of several annotators: the votes of each example, their agreement, and one observed label from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, nearest, show

Ties = Literal["draw", "unlabeled", "refuse"]
"""Treatment of examples with several most frequent labels."""

ANONYMOUS = -1
"""Annotator of votes that are known by their number only."""


@dataclass(frozen=True)
class Votes:
    """Votes of annotators, ordered by example and annotator.

    Attributes:
        annotators: names of the annotators; empty if only the number of votes for each class is known.
        index: (M,) int64 source row of the example of each vote.
        annotator: (M,) int64 position in ``annotators``, or `ANONYMOUS`.
        label: (M,) int64 class of each vote.

    Examples:
        >>> votes = make_votes(("a", "b", "c"), np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2]))
        >>> votes.majority(np.arange(3), 3, np.zeros(3))[0]
        array([ 1,  2, -2])
        >>> votes.agreement(3)["pairwise_agreement"]
        0.3333333333333333
    """

    annotators: tuple[str, ...]
    index: NDArray[np.int64]
    annotator: NDArray[np.int64]
    label: NDArray[np.int64]

    @property
    def hash(self) -> str:
        """SHA-256 over the names of the annotators and all votes."""
        digest = hashlib.sha256("\x1f".join(self.annotators).encode("utf-8", "surrogatepass"))
        for column in (self.index, self.annotator, self.label):
            digest.update(column.astype("<i8").tobytes())
        return digest.hexdigest()

    def of_examples(self, rows: NDArray[np.int64]) -> Votes:
        """Return the votes on some examples, given by their source rows."""
        kept = np.isin(self.index, rows)
        return Votes(self.annotators, self.index[kept], self.annotator[kept], self.label[kept])

    def majority(
        self, rows: NDArray[np.int64], num_classes: int, uniform: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the most frequent label of each example.

        Args:
            rows: (N,) source rows.
            num_classes: number of classes C.
            uniform: (N,) numbers in [0, 1), which choose among equally frequent labels.

        Returns:
            (N,) classes, `UNKNOWN_TARGET` without votes, and an (N,) mask of the examples with several most frequent ones.
        """
        pairs, counts = np.unique(self.index * num_classes + self.label, return_counts=True)
        example, label = np.divmod(pairs, num_classes)
        starts = np.flatnonzero(np.diff(example, prepend=-1))
        highest = np.repeat(np.maximum.reduceat(counts, starts), np.diff(starts, append=len(example)))
        winners = Votes((), example[counts == highest], np.zeros(0, np.int64), label[counts == highest])
        chosen, number = winners._choose(rows, uniform)
        return chosen, number > 1

    def draw(self, rows: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the label of one vote of each example, `UNKNOWN_TARGET` without votes.

        Args:
            rows: (N,) source rows.
            uniform: (N,) numbers in [0, 1), which choose the vote.
        """
        return self._choose(rows, uniform)[0]

    def by_annotator(self, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """Return the labels of one annotator, `UNKNOWN_TARGET` where there is none.

        Raises:
            UserError: there is no annotator of this name.
        """
        if name not in self.annotators:
            known = nearest(name, ["majority", "draw", *self.annotators])
            raise UserError(f"noise.annotators: there is no annotator {show(name, quotes=False)}; {known}")
        kept = self.annotator == self.annotators.index(name)
        own = Votes((), self.index[kept], self.annotator[kept], self.label[kept])
        return own._choose(rows, np.zeros(len(rows)))[0]

    def agreement(self, num_classes: int) -> dict[str, float | int | None]:
        """Return the agreement of the annotators on examples with at least two votes.

        Returns:
            ``annotators`` and ``votes``; ``pairwise_agreement``, the mean fraction of pairs of votes on an example that are
            equal; ``krippendorff_alpha`` for nominal labels, 1 for perfect agreement and 0 for that of chance. Both are
            None if they are not defined.
        """
        pairs, counts = np.unique(self.index * num_classes + self.label, return_counts=True)
        example, label = np.divmod(pairs, num_classes)
        _, inverse = np.unique(example, return_inverse=True)
        # Votes on each example, for each of its labels.
        votes = np.bincount(inverse, counts)[inverse] if len(counts) else np.zeros(0)
        paired = votes > 1
        counts, label, inverse, votes = counts[paired], label[paired], inverse[paired], votes[paired]
        total = float(counts.sum())
        pairwise = alpha = None
        if total:
            equal = counts * (counts - 1) / (votes - 1)
            examples = len(np.unique(inverse))
            pairwise = float((equal / votes).sum() / examples)
            sizes = np.bincount(label, counts)
            expected = (total**2 - (sizes**2).sum()) / (total - 1)
            # Without any variation the agreement that chance would reach is perfect.
            alpha = float(1 - (total - equal.sum()) / expected) if expected else None
        return {
            "annotators": len(self.annotators),
            "votes": len(self.label),
            "pairwise_agreement": pairwise,
            "krippendorff_alpha": alpha,
        }

    def _choose(
        self, rows: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the label of one vote of each example, and its number of votes."""
        first = np.searchsorted(self.index, rows, side="left")
        number = np.searchsorted(self.index, rows, side="right") - first
        position = np.minimum(first + (uniform * number).astype(np.int64), max(len(self.label) - 1, 0))
        if not len(self.label):
            return np.full(len(rows), UNKNOWN_TARGET), number
        return np.where(number > 0, self.label[position], UNKNOWN_TARGET), number


def make_votes(
    annotators: Sequence[str],
    index: NDArray[np.int64],
    annotator: NDArray[np.int64],
    label: NDArray[np.int64],
) -> Votes:
    """Return votes in their order: by example, then by annotator.

    Example:
        >>> make_votes(("a", "b"), np.array([1, 0]), np.array([1, 0]), np.array([2, 3])).label
        array([3, 2])
    """
    order = np.lexsort((label, annotator, index))
    return Votes(tuple(annotators), index[order], annotator[order], label[order])
