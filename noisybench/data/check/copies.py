"""Exact copies within the splits of a dataset, and across them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.notes import MAX_NAMES
from noisybench.data.splits.duplicates import conflicting, content_ids, repeated
from noisybench.data.targets import Targets

SPLITS = ("train", "validation", "test")
"""Splits of a dataset, by the names of its attributes."""


@dataclass(frozen=True)
class CopyFacts:
    """Exact copies of inputs within a split, or across two splits.

    Attributes:
        where: ``train``, or ``train and test``.
        count: number of examples that are copies of an earlier one, or of one in the first of both splits.
        names: the first of them.
        other_labels: number of examples of which a copy has another label.
    """

    where: str
    count: int
    names: tuple[str, ...]
    other_labels: int


def copy_facts(dataset: Dataset) -> tuple[CopyFacts, ...]:
    """Find exact copies within and across splits; of texts, equal prompts with equal responses."""
    splits = splits_of(dataset)
    ids = dict(zip(splits, content_ids(*(split.inputs for split in splits.values())), strict=True))
    if dataset.target_kind.name == "tokens":
        responses = content_ids(*(split.targets[:, None, None, :] for split in splits.values()))
        ids = {name: _pairs(ids[name], part) for name, part in zip(splits, responses, strict=True)}
    found = []
    for name, split in splits.items():
        copies = np.flatnonzero(repeated(ids[name]))
        if len(copies):
            names = example_names(dataset, name, copies)
            found.append(CopyFacts(name, len(copies), names, int(conflicting(ids[name], training_labels(split)).sum())))
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        rows = np.flatnonzero(np.isin(ids[second], ids[first]))
        if len(rows):
            both = np.concatenate([ids[first], ids[second][rows]])
            labels = np.concatenate([training_labels(splits[first]), training_labels(splits[second])[rows]])
            others = conflicting(both, labels)[len(ids[first]) :]
            found.append(
                CopyFacts(f"{first} and {second}", len(rows), example_names(dataset, second, rows), int(others.sum()))
            )
    return tuple(found)


def splits_of(dataset: Dataset) -> dict[str, Split]:
    """Return the splits of a dataset by name."""
    return {name: getattr(dataset, name) for name in SPLITS}


def training_labels(split: Split) -> Targets:
    """Return the labels that training sees."""
    return split.targets if split.noisy_targets is None else split.noisy_targets


def _pairs(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers of pairs of numbers."""
    return first * (max(int(first.max(initial=0)), int(second.max(initial=0))) + 1) + second


def example_names(dataset: Dataset, split: str, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """Return file names of training and validation examples, and row numbers of others."""
    index = getattr(dataset, split).index[rows[:MAX_NAMES]].tolist()
    # A test split of the source has names of its own, which a dataset does not hold.
    is_drawn = len(dataset.train) + len(dataset.validation) + len(dataset.test) <= dataset.source_size
    if dataset.source_names and (split != "test" or is_drawn):
        return tuple(dataset.source_names[row] for row in index)
    return tuple(f"row {row}" for row in index)
