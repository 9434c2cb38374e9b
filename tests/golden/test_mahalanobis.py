"""Class-conditional Gaussians against the code of robust generative classifiers."""

from __future__ import annotations

import torch

from noisybench.mitigations.mahalanobis import class_moments, closest_subset, first_subset, pseudo_inverse
from noisybench.nn.spectrum import spectrum_of
from tests.golden.vectors import load_golden


def test_the_empirical_gaussians_are_the_authors() -> None:
    golden = load_golden("mahalanobis")
    spectrum = spectrum_of(golden.tensor("points"), golden.tensor("targets"), 5)
    means, precision = spectrum.class_means().float(), pseudo_inverse(spectrum.within_class_covariance()).float()
    torch.testing.assert_close(means, golden.tensor("empirical_means"), rtol=0, atol=1e-5)
    torch.testing.assert_close(precision, golden.tensor("empirical_precision"), rtol=1e-4, atol=1e-4)


def test_the_moments_of_random_subsets_are_the_authors() -> None:
    golden = load_golden("mahalanobis")
    points, targets, subset = (golden.tensor(name) for name in ("points", "targets", "subset"))
    # Those of the subset first, as if they had been drawn in this order.
    order = torch.cat([torch.nonzero(subset), torch.nonzero(~subset)]).squeeze(1)
    assert torch.equal(first_subset(targets, order), subset)
    means, covariance = class_moments(points.double(), targets, torch.zeros(5, 6).double(), subset)
    torch.testing.assert_close(means.float(), golden.tensor("start_means"), rtol=0, atol=1e-5)
    torch.testing.assert_close(pseudo_inverse(covariance).float(), golden.tensor("precision"), rtol=1e-4, atol=1e-4)


def test_the_selection_and_its_moments_are_the_authors() -> None:
    golden = load_golden("mahalanobis")
    points, targets, start = (golden.tensor(name) for name in ("points", "targets", "start_means"))
    kept = closest_subset(points, targets, start, golden.tensor("precision"))
    assert torch.equal(kept, golden.tensor("kept_pooled"))
    assert not torch.equal(kept, golden.tensor("subset"))
    means, covariance = class_moments(points.double(), targets, torch.zeros(5, 6).double(), kept)
    torch.testing.assert_close(means.float(), golden.tensor("means_pooled"), rtol=0, atol=1e-5)
    torch.testing.assert_close(covariance, golden.tensor("covariance_pooled").double(), rtol=0, atol=1e-5)
