"""Spectra and what is built on them: invariants, slow references, other libraries, and the outcome on handwritten digits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from noisybench.errors import UserError
from noisybench.mitigations._feature_classifiers import predict_linear
from noisybench.mitigations.mahalanobis import pseudo_inverse
from noisybench.nn import spectrum
from noisybench.nn.spectrum import Moments, predict_by_rank, rank_grid, spectrum_of
from tests.helpers import close, generator, labeled_points


def one_hot(targets: torch.Tensor, classes: int = 4) -> torch.Tensor:
    return functional.one_hot(targets, classes).double()


def test_the_rank_that_explains_a_fraction_is_not_raised_by_rounding() -> None:
    assert [spectrum.rank_explaining(torch.tensor([6.0, 3.0, 1.0]), fraction) for fraction in (0.5, 0.6, 0.7, 0.9, 1.0)] == [
        1, 1, 2, 2, 3,
    ]  # fmt: skip


# Moments and components


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int], seed: int) -> None:
    points = torch.randn(sum(sizes), 5, generator=generator(seed), dtype=torch.float64) + 1000
    parts = [Moments.from_vectors(each) for each in points.split(sizes)]
    for order in (parts, parts[::-1]):
        merged = order[0]
        for each in order[1:]:
            merged = merged.merge(each)
        close(merged.mean, points.mean(0))
        close(merged.scatter, (points - points.mean(0)).T @ (points - points.mean(0)), 1e-7)


def test_components_are_those_of_the_centered_svd() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    centered = points - points.mean(0)
    _, singular, right = torch.linalg.svd(centered, full_matrices=False)
    close(found.values, singular**2 / len(points))
    close(found.values.sum(), torch.trace(centered.T @ centered) / len(points))
    for rank in (1, 5, 12):
        projector = found.vectors[:, :rank] @ found.vectors[:, :rank].T
        close(projector, right[:rank].T @ right[:rank])
        close(projector @ projector, projector)
        close(torch.trace(projector), rank)
        close((centered @ (torch.eye(12) - projector).double()).square().sum() / len(points), found.values[rank:].sum())
    components = found.components(points)
    close(components.mean(0), torch.zeros(12))
    close(components.T @ components / len(points), torch.diag(found.values))


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, targets = labeled_points()
    whole = spectrum_of(points, targets, 4)
    monkeypatch.setattr(spectrum, "MOMENT_CHUNK", 7)
    parts = spectrum_of(points, targets, 4)
    close(parts.values, whole.values)
    close(parts.vectors @ parts.cross, whole.vectors @ whole.cross)


def test_labels_move_no_component_and_a_shift_moves_no_prediction() -> None:
    points, targets = labeled_points()
    found, other = spectrum_of(points, targets, 4), spectrum_of(points, targets.roll(1), 4)
    close(found.vectors, other.vectors)
    close(found.values, other.values)
    shifted = spectrum_of(points + 50, targets, 4)
    for rank in (3, 12):
        assert torch.equal(
            predict_linear(points, *found.least_squares(rank)),
            predict_linear(points + 50, *shifted.least_squares(rank)),
        )


def test_full_rank_least_squares_are_least_squares() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    design = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(design, one_hot(targets)).solution
    weights, bias = found.least_squares(12)
    close(weights, solution[:-1].T, 1e-8)
    close(bias, solution[-1], 1e-7)


def test_ridge_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    penalty = float(0.7 * found.values.mean() * len(points))
    reference = Ridge(alpha=penalty).fit(points.numpy(), one_hot(targets).numpy())
    weights, bias = found.least_squares(12, 0.7)
    close(weights, reference.coef_, 1e-8)
    close(bias, reference.intercept_, 1e-8)


def test_the_training_error_falls_with_the_rank_and_coefficients_do_not_depend_on_it() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    errors = []
    for rank in range(13):
        weights, bias = found.least_squares(rank)
        errors.append(float((points @ weights.T + bias - one_hot(targets)).square().sum()))
    assert errors == sorted(errors, reverse=True)
    close((found.least_squares(5)[0] @ found.vectors)[:, :5], (found.least_squares(12)[0] @ found.vectors)[:, :5])


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_one_sum_gives_the_predictions_of_every_rank(penalty: float) -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    ranks = [0, 1, 4, 5, 12]
    swept = predict_by_rank(found.components(points), found.coefficients(penalty), found.shares, ranks)
    for place, rank in enumerate(ranks):
        assert torch.equal(swept[place], predict_linear(points, *found.least_squares(rank, penalty)))


def test_a_truncated_classifier_sees_the_truncated_features() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    weights, bias = torch.randn(4, 12, generator=generator(5), dtype=torch.float64), torch.arange(4).double()
    for rank in (0, 3, 12):
        folded = found.truncated(weights, bias, rank)
        leading = found.vectors[:, :rank]
        seen = found.mean + (points - found.mean) @ leading @ leading.T
        close(points @ folded[0].T + folded[1], seen @ weights.T + bias)
    close(found.truncated(weights, bias, 12)[0], weights)
    close(found.truncated(weights, bias, 0)[1], weights @ found.mean + bias)


def test_a_rotation_of_the_features_changes_no_prediction() -> None:
    points, targets = labeled_points()
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator(9), dtype=torch.float64))[0]
    found, turned = spectrum_of(points, targets, 4), spectrum_of(points @ turn.T, targets, 4)
    weights, bias = torch.randn(4, 12, generator=generator(5), dtype=torch.float64), torch.zeros(4).double()
    for rank in (2, 6):
        assert torch.equal(
            predict_linear(points, *found.least_squares(rank)),
            predict_linear(points @ turn.T, *turned.least_squares(rank)),
        )
        straight, round_about = found.truncated(weights, bias, rank), turned.truncated(weights @ turn.T, bias, rank)
        close(points @ straight[0].T + straight[1], points @ turn.T @ round_about[0].T + round_about[1], 1e-8)


def test_dead_units_and_few_examples_do_not_explode() -> None:
    points, targets = labeled_points(count=9)  # fewer examples than dimensions
    points[:, 3] = 5.0
    found = spectrum_of(points, targets, 4)
    assert int(found.positive.sum()) <= 8
    weights, bias = found.least_squares(12)
    assert bool(weights.isfinite().all())
    close(points @ weights.T + bias, one_hot(targets), 1e-6)  # it can fit all of them


def test_only_directions_without_variance_are_dropped() -> None:
    targets = torch.arange(200) % 2
    points = torch.randn(200, 3, dtype=torch.float64, generator=generator()) * torch.tensor([1.0, 1.0, 1e-8])
    # The classes differ in a direction with a millionth of the largest variance.
    points[:, 1] = 1e-3 * (targets * 2.0 - 1)
    found = spectrum_of(points, targets, 2)
    assert found.positive.tolist() == [True, True, False]
    weights, bias = found.least_squares(3)
    assert torch.equal((points @ weights.T + bias).argmax(1), targets)
    inverse = pseudo_inverse(torch.diag(torch.tensor([1.0, 1e-6, 1e-12], dtype=torch.float64)))
    torch.testing.assert_close(inverse.diagonal(), torch.tensor([1.0, 1e6, 0.0], dtype=torch.float64))


def test_energies_are_those_along_left_singular_vectors() -> None:
    points, targets = labeled_points()
    found = spectrum_of(points, targets, 4)
    labels = one_hot(targets) - one_hot(targets).mean(0)
    left = torch.linalg.svd(points - points.mean(0), full_matrices=False)[0]
    wanted = [float((left[:, :rank].T @ labels).square().sum() / labels.square().sum()) for rank in range(1, 13)]
    close(found.energies(points, labels).cumsum(0), torch.tensor(wanted, dtype=torch.float64))


@given(st.integers(2, 20), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_ranks_keep_their_order(width: int, seed: int) -> None:
    values = torch.rand(width, generator=generator(seed), dtype=torch.float64).sort(descending=True).values
    assert 1 <= spectrum.participation_ratio(values) <= spectrum.effective_rank(values) + 1e-9 <= width + 1e-6
    assert 1 <= spectrum.rank_explaining(values, 0.9) <= spectrum.rank_explaining(values, 0.99) <= width
    even = torch.ones(width)
    assert spectrum.effective_rank(even) == pytest.approx(width)
    assert spectrum.participation_ratio(even) == pytest.approx(width)


def test_the_grid_is_that_of_ten_classes() -> None:
    assert rank_grid(10, 512) == [5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 25, 30, 40, 60, 90, 135, 202, 304, 456, 512]
    assert rank_grid(10, 8) == [5, 6, 7, 8]
    assert rank_grid(2, 3) == [1, 2, 3]


# Flatness


def test_equal_singular_values_are_flat_and_one_alone_is_not() -> None:
    even = torch.linalg.qr(torch.randn(50, 8, generator=generator(), dtype=torch.float64))[0]
    singular = spectrum.singular_values(even, "raw")
    assert spectrum.singular_value_entropy(singular) == pytest.approx(math.log(8), abs=1e-9)
    assert spectrum.largest_singular_value_ratio(singular) == pytest.approx(math.log(8), abs=1e-9)
    alone = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 4)).double()
    for measure in (spectrum.singular_value_entropy, spectrum.largest_singular_value_ratio):
        assert measure(spectrum.singular_values(alone, "raw")) == pytest.approx(0, abs=1e-6)
        assert measure(torch.zeros(3)) == 0


@pytest.mark.parametrize(("count", "distance"), [(64, 0.07), (500, 0.009), (5000, 0.0007)])
def test_a_gaussian_tends_to_flat(count: int, distance: float) -> None:
    points = torch.randn(count, 32, generator=generator(3), dtype=torch.float64)
    entropy = spectrum.singular_value_entropy(spectrum.singular_values(points, "raw"))
    assert math.log(32) - entropy == pytest.approx(distance, rel=0.35)


@given(st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_flatness_has_its_order_and_invariances(seed: int) -> None:
    points = labeled_points(seed, 40, 6)[0]

    def measures(matrix: torch.Tensor) -> tuple[float, float]:
        singular = spectrum.singular_values(matrix, "raw")
        return spectrum.largest_singular_value_ratio(singular), spectrum.singular_value_entropy(singular)

    ratio, entropy = measures(points)
    assert 0 <= ratio <= entropy <= math.log(6) + 1e-12
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator(seed), dtype=torch.float64))[0]
    for same in (3 * points, points @ turn, points.flip(0), points.repeat(2, 1)):
        assert measures(same) == pytest.approx((ratio, entropy), abs=1e-9)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_singular_values_are_those_of_a_decomposition(shape: tuple[int, int]) -> None:
    points = torch.randn(shape, generator=generator(5), dtype=torch.float64)
    torch.testing.assert_close(spectrum.singular_values(points, "raw"), torch.linalg.svdvals(points))


def test_the_row_mean_takes_one_dimension() -> None:
    singular = spectrum.singular_values(labeled_points()[0], "l2_rowmean")
    assert singular[-1] <= 1e-10
    assert spectrum.singular_value_entropy(singular) <= math.log(11)


@pytest.mark.parametrize(
    ("points", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), "3 rows, but 4 labels"),
        (
            torch.tensor([[1.0, float("nan")], [0.0, 1.0]]),
            torch.zeros(2, dtype=torch.int64),
            "1 of 2 rows contain numbers",
        ),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), r"shape \(3,\)"),
        (torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), "at least two rows"),
    ],
)
def test_features_that_are_none_are_refused(points: torch.Tensor, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        spectrum_of(points, targets, 2)


# Gaussians


def test_a_spectrum_without_variance_has_rank_zero() -> None:
    nothing = torch.zeros(3)
    assert (spectrum.effective_rank(nothing), spectrum.participation_ratio(nothing)) == (0.0, 0.0)
