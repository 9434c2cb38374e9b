"""Quality of audited data beside the labels: sizes of classes, copies of examples, and outliers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.findings import AuditResult
from noisybench.audit.inputs import AuditInput
from noisybench.data.lazy import Images
from noisybench.data.splits.duplicates import conflicting, content_ids, repeated
from noisybench.utils.seeds import Stream

NUM_NEIGHBORS = 10
"""Number of nearest examples whose mean distance shows outliers, and among which near duplicates are searched."""

MAX_COMPARED = 50_000
"""Largest number of examples with which each one is compared; of more, a random part, so that the cost stays linear."""

SEARCH_DIMENSIONS = 128
"""Principal components in which neighbors are searched; distances to them are computed in all dimensions."""

MIN_COSINE_DIMENSIONS = 64
"""Smallest dimension for near duplicates: directions of few numbers agree by chance."""

MIN_NEAR_COSINE = {"features": 0.95, "thumbnails": 0.99}
"""Smallest cosine of near duplicates, of centered features and of gray thumbnails."""

THUMBNAIL_SIDE = 16
"""Pixels per side of thumbnails; smaller images have no near duplicates."""

OUTLIER_LIMIT = 3.5
"""Smallest modified z-score of outliers (Iglewicz and Hoaglin 1993)."""

MIN_FOR_OUTLIERS = 30
"""Smallest number of examples with which outliers are flagged."""

ROWS_AT_A_TIME = 512
"""Number of examples that are compared at a time."""


@dataclass(frozen=True)
class DataQuality:
    """Copies and outliers among N audited examples.

    Attributes:
        exact_group: (N,) first example with the same content, as a position.
        near_group: (N,) first example that the example equals or resembles, also through others, as a position.
        near_origin: data in which near duplicates were searched, ``features`` or ``thumbnails``; None if they were not.
        neighbor_distance: (N,) mean distance to the nearest examples in features; None without features.
        is_outlier: (N,) True for distances far above those of the others; None without features.
        num_compared: number of examples with which each one was compared.
        across_splits: (N,) True for examples with a copy or near duplicate in another split.
        other_label: (N,) True for examples with a copy or near duplicate that has another label.
    """

    exact_group: NDArray[np.int64]
    near_group: NDArray[np.int64]
    near_origin: str | None
    neighbor_distance: NDArray[np.float64] | None
    is_outlier: NDArray[np.bool_] | None
    num_compared: int
    across_splits: NDArray[np.bool_]
    other_label: NDArray[np.bool_]

    @property
    def is_exact_copy(self) -> NDArray[np.bool_]:
        """(N,) True for examples with the content of an earlier one."""
        return repeated(self.exact_group)

    @property
    def is_near_duplicate(self) -> NDArray[np.bool_]:
        """(N,) True for examples that resemble an earlier one without equaling one."""
        return repeated(self.near_group) & ~self.is_exact_copy

    @property
    def groups(self) -> list[list[int]]:
        """Positions of the examples of each group of copies and near duplicates."""
        order = np.argsort(self.near_group, kind="stable")
        starts = np.flatnonzero(np.diff(self.near_group[order], prepend=-1))
        return [group.tolist() for group in np.split(order, starts[1:]) if len(group) > 1]


def measure_data_quality(data: AuditInput) -> DataQuality:
    """Find copies, near duplicates and outliers among audited examples.

    Exact copies are found by content. Near duplicates are neighbors whose centered features have a cosine of 0.95 or more;
    without features, whose gray thumbnails of 16 x 16 pixels correlate by 0.99 or more. Outliers are examples whose
    logarithmic mean distance to the 10 nearest others exceeds the median by 3.5 modified standard deviations.

    Args:
        data: audited examples.
    """
    size = len(data.observed)
    exact = content_ids(data.images)[0]
    points, origin, distance = None, None, None
    if data.features is not None:
        points, origin = comparable(data.features), "features"
    elif data.has_pictures and min(data.images.shape[2:]) >= THUMBNAIL_SIDE:
        points, origin = thumbnails(data.images), "thumbnails"
    pairs, num_compared = np.empty((0, 2), dtype=np.int64), size
    if points is not None and origin is not None:
        neighbors, distances, num_compared = nearest_examples(points)
        if points.shape[1] >= MIN_COSINE_DIMENSIONS:
            # Of unit vectors, the squared distance is 2 - 2 cos; vectors of zeros resemble nothing.
            near = (distances**2 <= 2 - 2 * MIN_NEAR_COSINE[origin]) & points.any(1, keepdims=True)
            rows, columns = np.nonzero(near)
            pairs = np.stack([rows, neighbors[rows, columns]], axis=1)
        else:
            origin = None
        distance = distances.mean(1) if data.features is not None else None
    grouped = _grouped(exact, pairs)
    in_test = np.zeros(size, dtype=np.int64) if data.in_test is None else data.in_test.astype(np.int64)
    return DataQuality(
        exact,
        grouped,
        origin,
        distance,
        None if distance is None else far_examples(distance),
        num_compared,
        conflicting(grouped, in_test),
        conflicting(grouped, data.observed),
    )


def comparable(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features whose Euclidean distances can be compared.

    Many dimensions are centered and scaled to unit length, so that distances are those of cosines; few, such as columns of a
    table, are standardized, because their lengths have a meaning.

    Example:
        >>> comparable(np.array([[0, 5], [2, 5]], dtype=np.float32)).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    centered = features - features.mean(0)
    if features.shape[1] >= MIN_COSINE_DIMENSIONS:
        return _unit_rows(centered)
    deviation = features.std(0)
    return np.asarray(centered / np.where(deviation > 0, deviation, 1), dtype=np.float32)


def thumbnails(images: Images) -> NDArray[np.float32]:
    """Return (N, 256) gray thumbnails without mean and scale, which brightness, contrast and size do not change.

    Args:
        images: (N, C, H, W) uint8 images.
    """
    side, parts = THUMBNAIL_SIDE, []
    for start in range(0, len(images), ROWS_AT_A_TIME):
        gray = torch.from_numpy(np.asarray(images[start : start + ROWS_AT_A_TIME])).float().mean(1, keepdim=True)
        small = torch.nn.functional.interpolate(gray, (side, side), mode="area").flatten(1)
        centered = small - small.mean(1, keepdim=True)
        # Nearly uniform pictures show nothing that could be compared.
        parts.append((centered * (centered.std(1, keepdim=True) > 1)).numpy())
    return _unit_rows(np.concatenate(parts))


def _unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1), dtype=np.float32)


def nearest_examples(points: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Find the nearest other examples of each one.

    Args:
        points: (N, D) features.

    Returns:
        (N, K) positions and distances of the `NUM_NEIGHBORS` nearest of at most `MAX_COMPARED` examples, and the number of
        these; K is smaller for fewer examples.

    Example:
        >>> neighbors, distances, _ = nearest_examples(np.array([[0.0], [1.0], [3.0]], dtype=np.float32))
        >>> neighbors.tolist(), distances.tolist()
        ([[1, 2], [0, 2], [1, 0]], [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]])
    """
    size = len(points)
    compared = np.arange(size)
    if size > MAX_COMPARED:
        compared = np.sort(Stream("audit", "neighbors", size).permutation(size)[:MAX_COMPARED])
    count = min(NUM_NEIGHBORS, size - 1)
    neighbors, distances = np.zeros((size, count), dtype=np.int64), np.zeros((size, count))
    for start, found in _candidates(points, compared, count + 1):
        rows = np.arange(start, start + len(found))
        difference = np.linalg.norm(points[rows][:, None] - points[found], axis=2).astype(np.float64)
        # The example itself is no neighbor; where copies hide it among the candidates, one of these is dropped.
        difference[found == rows[:, None]] = np.inf
        order = np.argsort(difference, axis=1, kind="stable")[:, :count]
        neighbors[rows] = np.take_along_axis(found, order, axis=1)
        distances[rows] = np.take_along_axis(difference, order, axis=1)
    return neighbors, distances, len(compared)


def _candidates(
    points: NDArray[np.float32], compared: NDArray[np.int64], count: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the first row of each chunk, and (rows, count) positions of the nearest examples in principal components."""
    centered = torch.from_numpy(points - points.mean(0))
    if points.shape[1] > SEARCH_DIMENSIONS:
        _, vectors = torch.linalg.eigh(centered.T @ centered)
        centered = centered @ vectors[:, -SEARCH_DIMENSIONS:]
    others = centered[torch.from_numpy(compared)]
    for start in range(0, len(points), ROWS_AT_A_TIME):
        chunk = centered[start : start + ROWS_AT_A_TIME]
        # |a - b|^2 without |a|^2, which is the same for all candidates.
        order = (others.square().sum(1) - 2 * chunk @ others.T).topk(min(count, len(others)), largest=False).indices
        yield start, compared[order.numpy()]


def far_examples(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return an (N,) mask of distances far above the others; none of fewer than `MIN_FOR_OUTLIERS`.

    Example:
        >>> distance = np.append(np.linspace(1, 2, 40), 50)
        >>> np.flatnonzero(far_examples(distance)).tolist()
        [40]
    """
    positive = distance[distance > 0]
    if len(distance) < MIN_FOR_OUTLIERS or not len(positive):
        return np.zeros(len(distance), dtype=bool)
    # Distances are skewed, and those between copies are 0.
    logarithm = np.log(np.maximum(distance, positive.min()))
    excess = logarithm - np.median(logarithm)
    deviation = 1.4826 * float(np.median(np.abs(excess)))
    return np.asarray(excess > OUTLIER_LIMIT * deviation) if deviation else np.zeros(len(distance), dtype=bool)


def _grouped(exact: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first position of each group that pairs and equal contents connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(exact)
    edges = np.concatenate([pairs, np.stack([np.arange(size), exact], axis=1)])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def class_quality(data: AuditInput, result: AuditResult) -> list[dict[str, Any]]:
    """Return name, number of labels and quality of each class; figures of a class without labels are None.

    `accuracy` is the fraction of its labels that models predict which were not trained on them, `suspected` the fraction among
    the suspects, and `label_quality` the mean probability of the given label.
    """
    suspected = np.zeros(len(data.observed), dtype=bool)
    suspected[result.suspects] = True
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(data.class_names):
        inside = data.observed == number
        count = int(inside.sum())
        measured = {
            "accuracy": float((result.suggested[inside] == number).mean()) if count else None,
            "suspected": float(suspected[inside].mean()) if count else None,
            "label_quality": float(result.label_quality[inside].mean()) if count else None,
        }
        rows.append({"name": name, "labels": count, **measured})
    return rows


def imbalance(observed: NDArray[np.int64], num_classes: int) -> float | None:
    """Return the ratio of the largest to the smallest class; None if a class has no labels.

    Example:
        >>> imbalance(np.array([0, 0, 0, 1]), 2)
        3.0
    """
    sizes = np.bincount(observed, minlength=num_classes)
    return float(sizes.max() / sizes.min()) if sizes.min() else None
