"""NMTune: its three terms, its head, and what it tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from noisybench.errors import TrainingError
from noisybench.mitigations._probe_heads import ResidualMLP
from noisybench.mitigations.nmtune import consistency, covariance, dominance, gram_matrix
from noisybench.nn.frozen import with_frozen_backbone
from tests.helpers import prepared_toy, train_toy


def points(seed: int = 0, count: int = 20, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Regularizers


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_consistency_is_a_distance_of_directions(seed: int, scale: float) -> None:
    features, changed = points(seed), points(seed + 1)
    found = consistency(changed, features)
    cosine = functional.cosine_similarity(changed, features)
    torch.testing.assert_close(found, (2 - 2 * cosine).mean())
    torch.testing.assert_close(consistency(scale * changed, features), found)
    torch.testing.assert_close(6 * consistency(changed, features, by_element=True), found)
    assert consistency(features, features) == pytest.approx(0, abs=1e-12)
    assert consistency(-features, features) == pytest.approx(4)


def test_no_gradient_reaches_the_features() -> None:
    features = points().requires_grad_()
    consistency(points(1).requires_grad_(), features).backward()
    assert features.grad is None


def test_covariance_by_hand() -> None:
    rows = points().tolist()
    means = [sum(row[i] for row in rows) / 20 for i in range(6)]
    total = 0.0
    for a in range(6):
        for b in range(6):
            if a != b:
                total += (sum((row[a] - means[a]) * (row[b] - means[b]) for row in rows) / 19) ** 2
    assert covariance(points()).item() == pytest.approx(total / 6)
    assert covariance(points() + 5).item() == pytest.approx(total / 6)
    assert covariance(3 * points()).item() == pytest.approx(81 * total / 6)
    assert covariance(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).item() == 0
    with pytest.raises(ValueError, match="at least two rows"):
        covariance(points(count=1))


def test_dominance_of_one_direction_and_of_none() -> None:
    alone = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4)).double()
    assert dominance(alone).item() == pytest.approx(-1, abs=1e-6)
    even = torch.linalg.qr(points())[0]
    assert dominance(even).item() == pytest.approx(-1 / 6)
    singular = np.linalg.svd(points().numpy(), compute_uv=False)
    assert dominance(points(), 3).item() == pytest.approx(-(singular[:3] / singular.sum()).mean())
    assert dominance(7 * points(), 3).item() == pytest.approx(dominance(points(), 3).item())
    centered = points() + 100
    assert dominance(centered, center=True).item() == pytest.approx(dominance(points() - points().mean(0)).item())
    assert torch.autograd.gradcheck(dominance, (points(count=5, width=3).requires_grad_(),))


@pytest.mark.parametrize(("count", "width"), [(20, 30), (30, 20), (25, 25)])
@pytest.mark.parametrize("center", [False, True])
def test_terms_of_a_gram_matrix_are_those_of_the_definition(count: int, width: int, center: bool) -> None:
    features = points(3, count, width) * torch.logspace(0, -2, width) + 0.2

    def gradient(term: Any, dtype: torch.dtype) -> tuple[float, torch.Tensor]:
        given = features.to(dtype, copy=True).requires_grad_()
        value = term(given)
        assert value.dtype == dtype
        value.backward()
        assert given.grad is not None
        return value.item(), given.grad.double()

    def by_definition(given: torch.Tensor) -> torch.Tensor:
        singular = torch.linalg.svdvals(given - given.mean(0) if center else given)
        return -(singular / singular.sum())[:3].mean()

    terms = [
        (by_definition, lambda given: dominance(given, 3, center)),
        (by_definition, lambda given: dominance(given, 3, center, gram_matrix(given))),
        (covariance, lambda given: covariance(given, gram_matrix(given))),
    ]
    for definition, term in terms:
        value, wanted = gradient(definition, torch.float64)
        found, found_gradient = gradient(term, torch.float32)
        assert found == pytest.approx(value, rel=1e-5)
        # Inputs in float32 alone change the gradient along the smallest singular vectors by about that much.
        assert (found_gradient - wanted).norm() < 1e-4 * wanted.norm()


# Heads


def test_the_head_has_as_many_weights_as_the_formula_says() -> None:
    width, classes = 16, 10
    head = with_frozen_backbone(
        nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.Linear(width, classes)),
        lambda each: ResidualMLP(each, 4, 1, True, 1.0),
    )
    trained = sum(each.numel() for each in head.parameters() if each.requires_grad)
    assert trained == 8 * width**2 + 14 * width + (width + 1) * classes


def test_a_head_whose_output_is_zero_changes_nothing() -> None:
    head = ResidualMLP(6, 4, 1, True, 1.0)
    last: Any = head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    features = points().float()
    assert torch.equal(head(features), features)
    assert consistency(head(features), features).item() == pytest.approx(0, abs=1e-6)


def test_an_epoch_reports_the_mean_terms_of_its_batches(tmp_path: Path) -> None:
    """One batch per epoch, and weights that do not change: the terms of the batch are those of all examples."""
    run = prepared_toy("nmtune", budget={"epochs": 1, "batch_size": 24, "learning_rate": 1e-9})
    recorder = train_toy(run, tmp_path)
    mitigation: Any = run.stack.mitigations[0]
    first, second, third, after, _, count = mitigation._totals.tolist()
    assert count == -(-len(run.labels.train) // 24)
    found = recorder.rows[0].diagnostics
    assert [found[f"nmtune.{name}"] for name in ("consistency", "covariance", "dominance", "feature_norm")] == (
        pytest.approx([total / count for total in (first, second, third, after)], rel=1e-6)
    )
    assert 0 < found["nmtune.consistency"] < 4


def test_without_weights_nmtune_is_the_perceptron(tmp_path: Path) -> None:
    probe = train_toy(prepared_toy("mlp_probe"), tmp_path / "probe")
    tuned = train_toy(prepared_toy({"name": "nmtune", "strength": 0.0}), tmp_path / "tuned")
    other = train_toy(prepared_toy("nmtune"), tmp_path / "other")
    assert probe.record({}).weights_sha256 == tuned.record({}).weights_sha256
    assert probe.record({}).weights_sha256 != other.record({}).weights_sha256
    assert {"nmtune.consistency", "nmtune.covariance", "nmtune.dominance"} <= set(other.rows[-1].diagnostics)
    assert -1 <= other.rows[-1].diagnostics["nmtune.dominance"] < 0


# Divergence


def test_features_that_are_not_finite_make_the_loss_so(tmp_path: Path) -> None:
    features = points()
    features[0, 0] = torch.inf
    assert dominance(features).isnan()
    assert dominance(features.float()).isnan()
    with pytest.raises(TrainingError, match=r"training loss became nan in epoch 0; decrease budget.learning_rate"):
        train_toy(prepared_toy("nmtune", budget={"learning_rate": 1e18}), tmp_path)
