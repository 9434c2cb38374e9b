"""Nearest neighbors and their votes against scikit-learn."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from noisybench.nn import neighbors
from noisybench.nn.neighbors import NeighborClassifier, nearest_neighbors, unit_rows
from tests.helpers import close, generator, labeled_points


def wu_weights(distances: np.ndarray) -> np.ndarray:
    """The votes of Wu et al. 2018 as weights of scikit-learn, which gives cosine distances."""
    votes: np.ndarray = np.exp((1 - distances) / 0.07)
    return votes


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_votes_are_those_of_scikit_learn(temperature: float | None) -> None:
    points, targets = labeled_points(count=120)
    points = points - points.mean(0)
    queries = torch.randn(50, 12, generator=generator(9), dtype=torch.float64)
    reference = KNeighborsClassifier(
        9, metric="cosine", algorithm="brute", weights="uniform" if temperature is None else wu_weights
    ).fit(points.numpy(), targets.numpy())
    shares = NeighborClassifier(points, targets, 4, 9, temperature)(queries.float()).softmax(1)
    close(shares, reference.predict_proba(queries.numpy()), 1e-5)
    assert shares.argmax(1).tolist() == reference.predict(queries.numpy()).tolist()


def test_neighbors_are_the_nearest_whatever_the_size_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(101, 7, generator=generator(1))
    reference = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(points.numpy())
    # Without queries scikit-learn leaves out each point itself.
    wanted = reference.kneighbors(return_distance=False)
    for num_bytes in (1, 404 * 10, 2**28):
        monkeypatch.setattr(neighbors, "SIMILARITY_BYTES", num_bytes)
        similarities, found = nearest_neighbors(unit_rows(points), unit_rows(points), 6, torch.arange(101))
        assert np.array_equal(found.numpy(), wanted)
        assert bool((similarities.diff(dim=1) <= 0).all())


def test_only_a_query_that_is_a_point_is_kept_from_its_own_vote() -> None:
    points = unit_rows(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    found = nearest_neighbors(points[[0, 0, 2]], points, 1, own=torch.tensor([0, -1, 2]))[1]
    assert found.squeeze(1).tolist() == [1, 0, 1]
    assert [tuple(part.shape) for part in nearest_neighbors(points[:0], points, 2)] == [(0, 2), (0, 2)]


def test_kept_neighbors_are_read_again_and_those_of_other_points_are_not(tmp_path: Path) -> None:
    points, targets = labeled_points()
    queries = points[:20].float() + 0.1
    layers = [
        NeighborClassifier(points, targets, 4, 5),
        NeighborClassifier(points, targets.flip(0), 4, 5),
        NeighborClassifier(points * torch.linspace(1, 2, 12), targets, 4, 5),
        NeighborClassifier(points, targets, 4, 6),
    ]
    plain = [layer(queries) for layer in layers]
    for layer in layers:
        layer.folder = tmp_path / "neighbors"
    for _ in range(2):
        for layer, wanted in zip(layers, plain, strict=True):
            assert torch.equal(layer(queries), wanted)
    # Other labels of the same points share a file, other points and numbers of neighbors do not.
    files = sorted((tmp_path / "neighbors").glob("*.pt"))
    assert len(files) == 3
    assert copy.deepcopy(layers[0]).folder is None
    assert torch.equal(pickle.loads(pickle.dumps(layers[0]))(queries), plain[0])
    files[0].write_bytes(b"damaged")
    for layer, wanted in zip(layers, plain, strict=True):
        assert torch.equal(layer(queries), wanted)


def test_the_votes_are_computed_in_single_precision_under_autocast() -> None:
    points, targets = labeled_points()
    layer = NeighborClassifier(points, targets, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(points.float()), layer(points.float()))
        found = layer(points.float())
    assert torch.equal(found, layer(points.float()))
