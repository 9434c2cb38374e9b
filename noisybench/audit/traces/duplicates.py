"""Copies of traces: the same prompt, and prompts that say nearly the same with the same numbers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisybench.data.traces.gsm8k_calculations import NUMBER

MIN_SIMILARITY = 0.8
"""Share of common pairs of successive words (Jaccard) from which on two prompts are near duplicates."""

MAX_COMPARED = 2000
"""Largest number of different prompts with the same numbers that are compared with each other."""


@dataclass(frozen=True)
class TraceDuplicates:
    """Groups of N traces.

    Attributes:
        exact: (N,) position of the first trace with the same prompt.
        is_copy: (N,) True for traces whose prompt and response equal those of an earlier one.
        near: (N,) position of the first trace with the same or nearly the same prompt.
        num_skipped: number of prompts that were not compared, because too many have the same numbers.
    """

    exact: NDArray[np.int64]
    is_copy: NDArray[np.bool_]
    near: NDArray[np.int64]
    num_skipped: int

    @property
    def is_near(self) -> NDArray[np.bool_]:
        """(N,) True for traces whose prompt resembles an earlier one without being equal to it."""
        return np.asarray(self.near != self.exact)


def find_duplicates(prompts: Sequence[str], responses: Sequence[str], exact: NDArray[np.int64]) -> TraceDuplicates:
    """Find copies and near duplicates.

    Only prompts with the same numbers in the same order can be near duplicates: other numbers make another problem.

    Args:
        prompts: (N,) prompts.
        responses: (N,) responses.
        exact: (N,) position of the first trace with the same prompt.

    Example:
        >>> story = "has 3 red pens and buys 4. How many pens?"
        >>> prompts = [f"Ann {story}", f"Bob {story}", "3 or 4?"]
        >>> find_duplicates(prompts, ["7"] * 3, np.arange(3)).near
        array([0, 0, 2])
    """
    seen: set[tuple[int, str]] = set()
    is_copy = np.zeros(len(prompts), dtype=bool)
    for row, key in enumerate(zip(exact.tolist(), responses, strict=True)):
        is_copy[row] = key in seen
        seen.add(key)
    by_numbers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in np.unique(exact).tolist():
        by_numbers[tuple(NUMBER.findall(prompts[row]))].append(row)
    first = np.arange(len(prompts))
    num_skipped = 0
    for rows in by_numbers.values():
        if len(rows) > MAX_COMPARED:
            num_skipped += len(rows)
            continue
        leaders: list[tuple[int, set[tuple[str, str]]]] = []
        for row in rows:
            pairs = _word_pairs(prompts[row])
            leader = next((other for other, words in leaders if _similarity(pairs, words) >= MIN_SIMILARITY), None)
            if leader is None:
                leaders.append((row, pairs))
            else:
                first[row] = leader
    return TraceDuplicates(exact, is_copy, first[exact], num_skipped)


def _word_pairs(prompt: str) -> set[tuple[str, str]]:
    words = prompt.casefold().split()
    return set(itertools.pairwise(words))


def _similarity(first: set[tuple[str, str]], second: set[tuple[str, str]]) -> float:
    """Return the Jaccard similarity; prompts of a single word are never similar."""
    return len(first & second) / len(first | second) if first and second else 0.0
