"""Exact copies of examples, found by their content."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import RawSplit
from noisybench.data.lazy import Images
from noisybench.data.notes import MAX_NAMES, ReadingNote
from noisybench.data.splits.splits import Rows
from noisybench.data.targets import Targets
from noisybench.data.texts import is_text, texts_of
from noisybench.errors import UserError

CHUNK_SIZE = 2048
"""Number of examples that are compared at a time."""

MAX_SAMPLE_BYTES = 1024
"""Largest number of bytes of an example that are compared first; only examples that agree in them are read whole."""


def content_ids(*splits: Images) -> list[NDArray[np.int64]]:
    """Number the examples of splits by their content: equal inputs have equal numbers.

    Inputs of a single value, such as black images, show nothing and never count as copies.

    Args:
        splits: arrays of inputs, each of shape (N, C, H, W), or texts; memory-mapped ones are read in chunks.

    Returns:
        For each split, the (N,) position of the first equal example among all examples.

    Example:
        >>> first = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
        >>> content_ids(first, first[::-1])
        [array([0, 1]), array([1, 0])]
    """
    if any(is_text(split) for split in splits):
        return _text_ids([texts_of(np.asarray(split[:])) for split in splits])
    samples = [_sample_digests(split) for split in splits]
    starts = np.cumsum([0, *(len(split) for split in splits)])
    ids = np.arange(starts[-1])
    digests = np.concatenate(samples) if samples else np.empty(0, dtype=np.uint64)
    _, inverse, counts = np.unique(digests, return_inverse=True, return_counts=True)
    candidates = counts[inverse] > 1
    first_with: dict[bytes, int] = {}
    for start, split in zip(starts[:-1], splits, strict=True):
        rows = np.flatnonzero(candidates[start : start + len(split)])
        for row, example in _examples(split, rows):
            # Shapes are part of the content: 8x6 and 6x8 images may have the same bytes.
            if example.size and (example != example.flat[0]).any():
                digest = hashlib.blake2b(example.tobytes(), digest_size=16, salt=b"content").digest()
                ids[start + row] = first_with.setdefault(digest + repr(example.shape).encode(), int(start + row))
    return [ids[start:end] for start, end in itertools.pairwise(starts)]


def _text_ids(splits: list[list[str]]) -> list[NDArray[np.int64]]:
    """Return the position of the first equal text for the texts of each split."""
    first: dict[str, int] = {}
    positions = itertools.count()
    return [np.array([first.setdefault(text, next(positions)) for text in split], np.int64) for split in splits]


def _examples(split: Images, rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield position and content of some rows."""
    for start in range(0, len(rows), CHUNK_SIZE):
        part = rows[start : start + CHUNK_SIZE]
        yield from zip(part.tolist(), np.asarray(split[part]), strict=True)


def _sample_digests(split: Images) -> NDArray[np.uint64]:
    """Return an (N,) digest of the middle bytes of each example, which differ for most different examples."""
    digests = np.empty(len(split), dtype=np.uint64)
    weights: NDArray[np.uint64] | None = None
    for start in range(0, len(split), CHUNK_SIZE):
        chunk = split[start : start + CHUNK_SIZE]
        size = int(np.prod(chunk.shape[1:])) * chunk.dtype.itemsize
        length = min(size, MAX_SAMPLE_BYTES)
        first = (size - length) // 2
        flat = np.ascontiguousarray(chunk).reshape(len(chunk), -1).view(np.uint8)[:, first : first + length]
        padded = np.zeros((len(chunk), -(-length // 8) * 8), dtype=np.uint8)
        padded[:, :length] = flat
        words = padded.view(np.uint64)
        if weights is None:
            # Odd multipliers that differ from word to word; equal sums of different words are merely read whole.
            weights = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        # Shifted first, because a sum of products alone would ignore the order of high bits.
        mixed = (words ^ (words >> np.uint64(29))) * weights
        digests[start : start + len(chunk)] = (mixed ^ (mixed >> np.uint64(32))).sum(axis=1, dtype=np.uint64)
    return digests


def has_copies(ids: NDArray[np.int64]) -> bool:
    """Return True if two examples have the same content."""
    return len(np.unique(ids)) < len(ids)


def repeated(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return an (N,) mask of the examples that are copies of an earlier one.

    Example:
        >>> repeated(np.array([4, 4, 7, 4]))
        array([False,  True, False,  True])
    """
    _, first = np.unique(ids, return_index=True)
    mask = np.ones(len(ids), dtype=bool)
    mask[first] = False
    return mask


def conflicting(ids: NDArray[np.int64], labels: Targets) -> NDArray[np.bool_]:
    """Return an (N,) mask of the examples of which a copy has another label.

    Args:
        ids: (N,) numbers of contents.
        labels: classes, masks or tokens.

    Example:
        >>> conflicting(np.array([0, 0, 2, 2]), np.array([1, 0, 1, 1]))
        array([ True,  True, False, False])
    """
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    mask = np.zeros(len(ids), dtype=bool)
    copied = np.flatnonzero(counts[inverse] > 1)
    if not len(copied):
        return mask
    rows = labels[copied].reshape(len(copied), -1)
    # The label of the first example of each content, for comparison with those of its copies.
    _, first, content = np.unique(inverse[copied], return_index=True, return_inverse=True)
    differs = (rows != rows[first][content]).any(axis=1)
    mask[copied] = np.isin(content, content[differs])
    return mask


def copy_notes(split: RawSplit, ids: NDArray[np.int64], rows: Rows, where: str) -> tuple[ReadingNote, ...]:
    """Return notes about copies within a split, and about copies with different labels.

    Args:
        split: the examples.
        ids: (N,) numbers of their contents.
        rows: positions of the examples that count.
        where: which examples these are, such as ``" of the test split"``; empty for all.
    """
    copies, conflicts = repeated(ids[rows]), conflicting(ids[rows], split.labels[rows])
    notes = []
    if copies.any():
        text = f"Examples{where} are exact copies of others"
        notes.append(named_note("copies", text, split.names, rows[copies]))
    if conflicts.any():
        text = f"Exact copies among the examples{where} have different labels"
        notes.append(named_note("copies_with_other_labels", text, split.names, rows[conflicts]))
    return tuple(notes)


def drop_copies(
    test: RawSplit,
    ids: NDArray[np.int64],
    rows: Rows,
    train: RawSplit,
    train_ids: NDArray[np.int64],
    train_rows: Rows,
) -> tuple[Rows, tuple[ReadingNote, ...]]:
    """Return the test rows without copies of training examples, and notes about those.

    Args:
        test: the test examples.
        ids: (N,) numbers of their contents.
        rows: positions of the examples that count.
        train: the training examples.
        train_ids: numbers of their contents.
        train_rows: positions of those that count.

    Raises:
        UserError: all of them are copies.
    """
    copies = np.isin(ids[rows], train_ids[train_rows])
    if not copies.any():
        return rows, ()
    if copies.all():
        raise UserError(
            f"dataset: all {len(rows)} test examples are exact copies of training examples, so test scores would be "
            "meaningless; use other test examples, or set dataset.duplicates=keep"
        )
    text = "Test examples were left out because they are exact copies of training examples (dataset.duplicates=keep keeps them)"
    notes = [named_note("copies_left_out_of_test", text, test.names, rows[copies])]
    copied = train_rows[np.isin(train_ids[train_rows], ids[rows[copies]])]
    labels = np.concatenate([train.labels[copied], test.targets[rows[copies]]])
    conflicts = conflicting(np.concatenate([train_ids[copied], ids[rows[copies]]]), labels)[len(copied) :]
    if conflicts.any():
        text = "Test examples are exact copies of training examples with other labels"
        notes.append(named_note("copies_with_other_labels", text, test.names, rows[copies][conflicts]))
    return rows[~copies], tuple(notes)


def named_note(kind: str, text: str, names: tuple[str, ...], rows: Rows) -> ReadingNote:
    """Return a note that names some rows of a split by file, or by number if they come from no files."""
    first = rows[:MAX_NAMES].tolist()
    return ReadingNote(kind, text, len(rows), tuple(names[row] if names else f"row {row}" for row in first))
