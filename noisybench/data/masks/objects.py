"""Truth about objects: what noisy masks have done to each instance of the clean ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.data.masks.instances import Instances
from noisybench.data.targets import IGNORED

OBJECT_STATUS = ("unchanged", "outline", "class", "missing")
"""Fate of an object: no pixel differs; the class is kept in at least half of its pixels; another class has at least half of
them; or neither, so that the object is gone or lies elsewhere."""

UNCHANGED, OUTLINE, CLASS, MISSING = range(len(OBJECT_STATUS))

MAJORITY = 0.5
"""Smallest share of an object's pixels that decides its fate."""

NEIGHBORS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
"""Steps in rows and columns from a pixel to its eight neighbors."""


@dataclass(frozen=True)
class ObjectChanges:
    """Fate of all objects of some masks.

    Attributes:
        row: (K,) position of the image of each object.
        instance: (K,) its number in the image.
        target: (K,) its clean class.
        observed: (K,) class of most of its pixels in the noisy mask.
        kept: (K,) share of its pixels that keep their class.
        status: (K,) position in `OBJECT_STATUS`.
        merged: (K,) True for an object that the noisy mask joins with another one, from which the clean mask separates it.
        added: number of connected regions of a class, on clean background, that touch no object of this class.
    """

    row: NDArray[np.int64]
    instance: NDArray[np.int64]
    target: NDArray[np.int64]
    observed: NDArray[np.int64]
    kept: NDArray[np.float64]
    status: NDArray[np.int64]
    merged: NDArray[np.bool_]
    added: int

    def statistics(self) -> dict[str, int]:
        """Return the number of objects, of each fate, of merged and of added ones."""
        counts = np.bincount(self.status, minlength=len(OBJECT_STATUS)).tolist()
        fates = dict(zip(OBJECT_STATUS, counts, strict=True))
        return {"objects": len(self.status), **fates, "merged": int(self.merged.sum()), "added": self.added}


def compare_objects(
    instances: Instances, clean: NDArray[np.uint8], observed: NDArray[np.uint8], has_background: bool = True
) -> ObjectChanges:
    """Return what noisy masks have done to each object.

    It follows from the masks alone, so that it holds for every noise model and for noisy masks from files.

    Args:
        instances: (N, H, W) instance of each pixel; 0 for none.
        clean: (N, H, W) clean masks.
        observed: (N, H, W) noisy masks.
        has_background: class 0 is the background.

    Example:
        >>> clean = np.array([[[1, 1, 0, 2, 2, 0, 0]]], dtype=np.uint8)
        >>> observed = np.array([[[1, 1, 1, 0, 0, 0, 2]]], dtype=np.uint8)
        >>> compare_objects(clean.astype(np.uint16), clean, observed).statistics()
        {'objects': 2, 'unchanged': 0, 'outline': 1, 'class': 0, 'missing': 1, 'merged': 0, 'added': 1}
    """
    columns: list[tuple[int, int, int, int, float, int, bool]] = []
    added = 0
    for row, (numbers, before, after) in enumerate(zip(instances, clean, observed, strict=True)):
        known = (before != IGNORED) & (after != IGNORED)
        # Instances of the background are no objects, as for noise models.
        own = np.where(known & ((before > 0) | (not has_background)), numbers, 0)
        present = np.unique(own[own > 0]).tolist()
        grown, count = _new_regions(own, before, after, known, has_background)
        added += count
        joined = _neighbors(own, after, has_background) - _neighbors(own, before, has_background)
        merged = {number for pair in joined for number in pair}
        for number in present:
            pixels = own == number
            target = int(before[pixels][0])
            classes = np.bincount(after[pixels], minlength=IGNORED + 1)
            kept = float(classes[target] / classes.sum())
            other = classes.copy()
            # Background is no class that an object takes.
            other[[target, 0] if has_background else [target]] = 0
            if kept == 1 and number not in grown:
                status = UNCHANGED
            elif kept >= MAJORITY:
                status = OUTLINE
            else:
                status = CLASS if other.max() / classes.sum() >= MAJORITY else MISSING
            columns.append((row, number, target, int(classes.argmax()), kept, status, number in merged))
    # Without any object, columns of no row.
    table = np.array(columns, dtype=np.float64).reshape(-1, 7)
    row_, instance, target_, observed_, kept_, status_, merged_ = table.T
    return ObjectChanges(
        row=row_.astype(np.int64),
        instance=instance.astype(np.int64),
        target=target_.astype(np.int64),
        observed=observed_.astype(np.int64),
        kept=kept_,
        status=status_.astype(np.int64),
        merged=merged_.astype(bool),
        added=added,
    )


def object_statistics(
    instances: Instances | None, clean: NDArray[np.uint8], observed: NDArray[np.uint8], has_background: bool = True
) -> dict[str, dict[str, int]]:
    """Return `objects`, the number of objects by fate (see `compare_objects`); nothing without instances."""
    if instances is None:
        return {}
    return {"objects": compare_objects(instances, clean, observed, has_background).statistics()}


def _new_regions(
    own: NDArray[np.uint16],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    known: NDArray[np.bool_],
    has_background: bool,
) -> tuple[set[int], int]:
    """Return the objects that grow, and the number of new regions that belong to none."""
    changed = known & (own == 0) & (before != after)
    if has_background:
        changed &= after > 0
    grown, added = set[int](), 0
    for label in np.unique(after[changed]).tolist():
        count, regions = cv2.connectedComponents((changed & (after == label)).astype(np.uint8), connectivity=8)
        owners = np.where(before == label, own, 0)
        touching = np.concatenate([_touching(regions, owners, *step) for step in NEIGHBORS], axis=1)
        grown |= set(np.unique(touching[1]).tolist())
        added += count - 1 - len(np.unique(touching[0]))
    return grown, added


def _touching(regions: NDArray[np.int32], owners: NDArray[np.uint16], down: int, right: int) -> NDArray[np.int64]:
    """Return the (2, P) pairs of a region and an object that lies one step from one of its pixels."""
    height, width = regions.shape
    here = regions[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    there = owners[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    both = (here > 0) & (there > 0)
    return np.stack([here[both].astype(np.int64), there[both].astype(np.int64)])


def _neighbors(own: NDArray[np.uint16], mask: NDArray[np.uint8], has_background: bool) -> set[tuple[int, int]]:
    """Return the pairs of objects that lie in one connected region of a class."""
    pairs = set[tuple[int, int]]()
    inside = (own > 0) & (mask > 0) if has_background else own > 0
    for label in np.unique(mask[inside]).tolist():
        _, regions = cv2.connectedComponents(((mask == label) & (mask != IGNORED)).astype(np.uint8), connectivity=8)
        shared = (own > 0) & (regions > 0)
        owners = np.unique(np.stack([regions[shared].astype(np.int64), own[shared].astype(np.int64)]), axis=1)
        for region in np.unique(owners[0]):
            members = owners[1][owners[0] == region].tolist()
            pairs |= {(first, second) for first in members for second in members if first < second}
    return pairs
