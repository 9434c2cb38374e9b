"""Draw and take splits: by class proportions, and by groups that no split may share."""

from __future__ import annotations

import heapq
import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import RawSplit, Split
from noisybench.data.lazy import take_rows
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import target_kind
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream
from noisybench.utils.text import printable

Rows = NDArray[np.int64]
"""Positions of examples in the source."""

Groups = NDArray[np.int64] | None
"""(N,) number of the group of each example; None if every example is a group of its own."""

MAX_STEPS = 20_000
"""Number of groups that all attempts at a split visit together."""

MAX_ATTEMPTS = 16
"""Largest number of random orders of groups of which the best split is taken."""


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


def stratified_groups(
    targets: NDArray[np.int64], groups: NDArray[np.int64], count: int, stream: Stream, required: bool = True
) -> NDArray[np.bool_]:
    """Choose whole groups with about ``count`` examples and the class proportions of all.

    A group that holds all examples of a class is not chosen, so that the class remains in training.

    Args:
        targets: (N,) class indices.
        groups: (N,) number of the group of each example.
        count: number of examples to choose, in [0, N].
        stream: source of randomness.
        required: choose a group even if none at all would be closer to ``count``.

    Returns:
        (N,) mask; never all examples, and none if every group holds all examples of a class.

    Examples:
        >>> targets, groups = np.array([0, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
        >>> chosen = stratified_groups(targets, groups, 2, Stream("example"))
        >>> np.bincount(targets[chosen]), len(np.unique(groups[chosen]))
        (array([1, 1]), 1)
    """
    _, targets = np.unique(targets, return_inverse=True)
    _, groups = np.unique(groups, return_inverse=True)
    sizes, num_groups = np.bincount(targets), int(groups.max(initial=-1)) + 1
    owners, classes, counts = _group_sizes(targets, groups)
    whole = np.zeros(num_groups, dtype=bool)
    whole[owners[counts == sizes[classes]]] = True
    starts = np.searchsorted(owners, np.arange(num_groups + 1)).tolist()
    members = list(zip(classes.tolist(), counts.tolist(), strict=True))
    num_members = np.bincount(groups, minlength=num_groups).tolist()
    # Squared distances are divided by the size of the class, so that rare classes count as much as others.
    weight = (1 / sizes).tolist()
    share = (count * sizes / max(1, len(targets))).tolist()
    best, best_distance = list[int](), float("inf")
    for _ in range(max(1, min(MAX_ATTEMPTS, MAX_STEPS // max(1, num_groups)))):
        missing, chosen = list(share), list[int]()

        def change(group: int, missing: list[float] = missing) -> float:
            """Return the change of the squared distance from the shares if a group is chosen."""
            parts = members[starts[group] : starts[group + 1]]
            return float(sum(weight[label] * size * (size - 2 * missing[label]) for label, size in parts))

        def choose(group: int, missing: list[float] = missing, chosen: list[int] = chosen) -> None:
            chosen.append(group)
            for label, size in members[starts[group] : starts[group + 1]]:
                missing[label] -= size

        candidates = [group for group in stream.permutation(num_groups).tolist() if not whole[group]]
        gap = count
        for group in candidates:
            parts = members[starts[group] : starts[group + 1]]
            if all(size <= missing[label] for label, size in parts) and len(chosen) < num_groups - 1:
                choose(group)
                gap -= num_members[group]
        # Then the group that is closest to the shares, so that classes with shares below one example take turns.
        taken = set(chosen)
        heap = [(change(group), place, group) for place, group in enumerate(candidates) if group not in taken]
        heapq.heapify(heap)
        while heap and gap >= 1 and len(chosen) < num_groups - 1:
            cost, place, group = heapq.heappop(heap)
            # Costs only grow, so the lowest one is right if it is up to date.
            if cost < (current := change(group)):
                heapq.heappush(heap, (current, place, group))
            elif num_members[group] < 2 * gap:
                choose(group)
                gap -= num_members[group]
        if not chosen and required and count and candidates:
            choose(min(candidates, key=change))
        distance = sum(factor * gap**2 for factor, gap in zip(weight, missing, strict=True))
        if distance < best_distance:
            best, best_distance = chosen, distance
    return np.isin(groups, best)


def _group_sizes(
    targets: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return group, class and number of examples of each class in each group, sorted by group."""
    num_classes = int(targets.max(initial=-1)) + 1
    pairs, counts = np.unique(groups * num_classes + targets, return_counts=True)
    return (*np.divmod(pairs, max(1, num_classes)), counts)


def can_divide(targets: NDArray[np.int64], groups: NDArray[np.int64]) -> bool:
    """Return True if a group can be held out such that every class remains.

    Args:
        targets: (N,) class indices.
        groups: (N,) number of the group of each example.

    Example:
        >>> can_divide(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
        False
    """
    _, targets = np.unique(targets, return_inverse=True)
    _, groups = np.unique(groups, return_inverse=True)
    owners, classes, counts = _group_sizes(targets, groups)
    return len(np.unique(owners[counts == np.bincount(targets)[classes]])) <= int(groups.max(initial=-1))


def hold_out(
    strata: NDArray[np.int64],
    groups: Groups,
    fraction: float,
    stream: Stream,
    required: bool,
    keep_classes: bool = False,
) -> NDArray[np.bool_]:
    """Return an (N,) mask of the examples of a split that takes a fraction of all.

    Args:
        strata: (N,) classes whose proportions are preserved.
        groups: groups that are not divided, if there are any.
        fraction: fraction to hold out.
        stream: source of randomness.
        required: True if the split must have examples.
        keep_classes: leave classes of one example in training, unless there are no others; groups always do.

    Raises:
        UserError: a required split would divide a group.
    """
    count = round(fraction * len(strata))
    if groups is None:
        several = np.bincount(strata)[strata] > 1
        rows = np.flatnonzero(several) if keep_classes and several.any() else np.arange(len(strata))
        held_out = np.zeros(len(strata), dtype=bool)
        held_out[rows[stratified(strata[rows], min(count, len(rows)), stream)]] = True
        return held_out
    chosen = stratified_groups(strata, groups, count, stream, required)
    if required and count and not chosen.any():
        raise UserError(
            "dataset: no test split can be drawn without dividing a group (examples of one group, or copies of one image), "
            f"because every class is in one of the {len(np.unique(groups))} groups only; bring more groups, or a test split"
        )
    return chosen


def rows_in_range(rows: Rows, groups: Groups, subset_range: list[float] | None, stream: Stream) -> Rows:
    """Return the rows in a range of a random order, given as two fractions; ranges that do not overlap share no group.

    Raises:
        UserError: the range is invalid.
    """
    if subset_range is None:
        return rows
    if len(subset_range) != 2 or not 0 <= subset_range[0] < subset_range[1] <= 1:
        raise UserError(
            f"dataset.subset_range: must be two fractions from 0 to 1 in increasing order, but got {subset_range}"
        )
    # Both ranges round the same products, so adjoining ranges neither share a row nor lose one.
    first, last = (round(fraction * len(rows)) for fraction in subset_range)
    # Sorting restores the order of the source.
    if groups is None:
        return np.sort(rows[stream.permutation(len(rows))[first:last]])
    _, group, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    order = stream.permutation(len(sizes))
    position = np.empty(len(sizes), dtype=np.int64)
    # A group belongs to the range that contains its middle.
    position[order] = np.cumsum(sizes[order]) - (sizes[order] + 1) // 2
    return rows[(first <= position[group]) & (position[group] < last)]


def check_groups(train: RawSplit, test: RawSplit | None) -> None:
    """Refuse groups that occur in two splits of the source.

    Raises:
        UserError: there are some; the message names them.
    """
    parts: dict[str, set[str]] = {}
    if train.groups is not None:
        held_out = np.zeros(len(train.groups), dtype=bool) if train.validation_mask is None else train.validation_mask
        parts = {"training": set(train.groups[~held_out]), "validation": set(train.groups[held_out])}
    if test is not None and test.groups is not None:
        parts["test"] = set(test.groups)
    names = list(parts)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            # Examples without a group have the empty text.
            shared = sorted((parts[name] & parts[other]) - {""})
            if shared:
                listed = ", ".join(f"`{printable(group)}`" for group in shared[:5]) + (" …" if len(shared) > 5 else "")
                raise UserError(
                    f"dataset: {len(shared)} groups occur in the {name} and in the {other} split ({listed}), which makes "
                    "scores too high; put each group into one split, or set dataset.allow_shared_groups=true"
                )


def group_notes(train: RawSplit, test: RawSplit | None) -> tuple[ReadingNote, ...]:
    """Return a note about groups by which splits are drawn, unless the reader has reported them."""
    drawn = test is None or train.validation_mask is None
    if train.groups is None or not drawn or any(note.kind.startswith("group") for note in train.notes):
        return ()
    return (ReadingNote("groups", "Splits are drawn without dividing groups", len(np.unique(train.groups))),)


def group_numbers(groups: NDArray[np.str_] | None) -> Groups:
    """Return the (N,) number of each group; examples with an empty text are groups of their own.

    Example:
        >>> group_numbers(np.array(["b", "", "a", "b", ""]))
        array([2, 4, 1, 2, 7])
    """
    if groups is None:
        return None
    _, numbers = np.unique(groups, return_inverse=True)
    alone = groups == ""
    numbers = np.where(alone, numbers.max(initial=0) + 1 + np.arange(len(groups)), numbers)
    return numbers.astype(np.int64)


def groups_in_names(names: tuple[str, ...], pattern: str) -> NDArray[np.str_]:
    """Return the part of each name that a regular expression finds: its group `group`, its first one, or the whole match.

    Raises:
        UserError: the expression is invalid, does not fit a name, or there are no names.

    Example:
        >>> groups_in_names(("cat/p1_a", "cat/p2_a", "dog/p1_b"), "p[0-9]+")
        array(['p1', 'p2', 'p1'], dtype='<U2')
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"dataset.group_pattern: `{pattern}` is not a regular expression ({error})") from None
    if not names:
        raise UserError("dataset.group_pattern: this dataset has no file names; remove the parameter")
    matches = [expression.search(name) for name in names]
    unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
    if unmatched:
        listed = ", ".join(printable(name) for name in unmatched[:5]) + (" …" if len(unmatched) > 5 else "")
        raise UserError(f"dataset.group_pattern: `{pattern}` finds nothing in {len(unmatched)} names: {listed}")
    index = "group" if "group" in expression.groupindex else min(1, expression.groups)
    return np.array([match[index] or "" for match in matches if match])


def stratify_by(split: RawSplit) -> NDArray[np.int64]:
    """Return the (N,) groups whose proportions the splits preserve, by the labels that training sees."""
    return target_kind(split.targets).strata(split.labels)


def rows_by_class(split: RawSplit, classes: list[int]) -> tuple[Rows, Rows]:
    """Return the rows whose label is one of ``classes``, and all others."""
    # By the label that training sees, because the clean class of an example with noisy labels may be unknown.
    inside = target_kind(split.targets).has_class_in(split.labels, classes)
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def remap_classes(split: RawSplit, classes: list[int]) -> RawSplit:
    """Return the split with ``classes`` numbered from 0."""
    kind = target_kind(split.targets)
    noisy_targets = None if split.noisy_targets is None else kind.remap_classes(split.noisy_targets, classes)
    return replace(split, targets=kind.remap_classes(split.targets, classes), noisy_targets=noisy_targets)


def sample(strata: NDArray[np.int64], rows: Rows, size: int | None, stream: Stream, name: str) -> Rows:
    """Return ``size`` of the rows with the proportions of all; all of them if it is None."""
    if size is None:
        return rows
    if size > len(rows):
        raise UserError(f"dataset.{name}: must be at most {len(rows)}, the number of examples, but got {size}")
    return rows[stratified(strata[rows], size, stream)]


def take(split: RawSplit, rows: Rows) -> Split:
    """Return the examples in some rows."""
    dtype = target_kind(split.targets).dtype or split.targets.dtype
    noisy_targets = None if split.noisy_targets is None else split.noisy_targets[rows].astype(dtype)
    fields = tuple(split.fields[row] for row in rows.tolist()) if split.fields else ()
    inputs, targets = take_rows(split.inputs, rows), split.targets[rows].astype(dtype)
    instances = None if split.instances is None else split.instances[rows]
    return Split(inputs, targets, rows.astype(np.int64), noisy_targets, fields, instances)
