"""Class-conditional Gaussians on trained features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._feature_classifiers import (
    extract_features,
    feature_width,
    gaussian_classifier,
    replace_classifier,
)
from noisybench.nn.spectrum import NEGLIGIBLE, Spectrum, spectrum_of
from noisybench.training.roles import PostProcessor
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Mahalanobis(PostProcessor):
    """Replace the trained classifier by class-conditional Gaussians on its features.

    All classes share one covariance, so the nearest mean by Mahalanobis distance is a linear classifier, which replaces
    the trained one (Lee et al. 2018). `robust` estimates means and covariances by minimum covariance determinants,
    which mislabeled examples influence less (robust generative classifier, Lee et al. 2019; the paper also combines
    features of several layers, here the last one is used). `identity` is the nearest class mean. Prior probabilities
    are equal.

    Features have as many dimensions as the classifier has inputs; `rank` keeps the leading principal components. A
    robust estimate needs more examples of each class than dimensions.
    """

    covariance: Literal["empirical", "robust", "identity"] = parameter(
        "empirical", help="Covariance: within-class covariance, a robust estimate, or none (nearest class mean)"
    )
    rank: int | None = parameter(
        None, ge=1, help="Number of leading principal components of the features; all by default"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the three kinds of covariance."""
        return {"rank": 20}, {"covariance": "robust", "rank": 3}, {"covariance": "identity"}

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that there are features, and enough examples for their covariance."""
        width = feature_width(network)
        if width is None:
            return [f"`{budget.network}` has no linear classifier to replace; choose another network"]
        if self.rank is not None and self.rank > width:
            return [f"rank: the features of `{budget.network}` have {width} dimensions, but rank is {self.rank}"]
        if self.covariance != "identity" and (self.rank or width) >= examples:
            return [
                f"rank: {examples} examples are too few for the covariance of {self.rank or width} dimensions; set a "
                "rank below the number of examples, or covariance=identity"
            ]
        return []

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that every class has enough examples for a robust covariance."""
        dimensions = self.rank or feature_width(network) or 0
        counts = torch.bincount(training_set.targets, minlength=training_set.num_classes).tolist()
        if self.covariance != "robust":
            return []
        return [
            f"rank: class {label} has {count} examples, too few for a robust covariance of {dimensions} dimensions; set "
            "a smaller `rank`, or covariance=empirical"
            for label, count in enumerate(counts)
            if 0 < count <= dimensions
        ][:1]

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Replace the classifier of every network."""
        for network in task.networks:
            points = extract_features(task, network, training_set.inputs)
            targets = training_set.targets.to(points.device)
            spectrum = spectrum_of(points, targets, training_set.num_classes)
            replace_classifier(network, *self._classifier(spectrum, points, targets))
        return True

    def _classifier(self, spectrum: Spectrum, points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and bias of the classifier for the original features."""
        leading = spectrum.vectors[:, : self.rank or len(spectrum.values)]
        means = (spectrum.class_means() - spectrum.mean) @ leading
        if self.covariance == "identity":
            precision = torch.eye(leading.shape[1], dtype=means.dtype, device=means.device)
        elif self.covariance == "empirical":
            # Projected before the inversion: only a (rank, rank) matrix has to be inverted.
            precision = pseudo_inverse(leading.T @ spectrum.within_class_covariance() @ leading)
        else:
            means, covariance = robust_moments((points.double() - spectrum.mean) @ leading, targets, means)
            precision = pseudo_inverse(covariance)
        weights, bias = gaussian_classifier(means, precision)
        # A class without observed examples has no mean, and must not be predicted.
        bias = torch.where(spectrum.shares > 0, bias, bias.new_full((), -1e4))
        # Back from centered components to the original features.
        full_weights = weights @ leading.T
        return full_weights, bias - full_weights @ spectrum.mean


def pseudo_inverse(covariance: Tensor) -> Tensor:
    """Return the pseudo-inverse of a (D, D) covariance, in which directions without variance have no weight.

    >>> pseudo_inverse(torch.diag(torch.tensor([2.0, 0.0])))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    # Rounding leaves tiny eigenvalues where there is no variance; a plain inverse would turn them into huge weights.
    inverse: Tensor = torch.linalg.pinv(covariance, rtol=NEGLIGIBLE, hermitian=True)
    return inverse


def robust_moments(points: Tensor, targets: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Return (C, D) means and the common (D, D) covariance of all classes by minimum covariance determinants.

    Args:
        points: (N, D) points.
        targets: (N,) class indices.
        means: (C, D) means, which are kept for classes without examples.

    Raises:
        ValueError: a class has no more examples than dimensions.
    """
    from sklearn.covariance import MinCovDet

    robust_means, covariance = means.clone(), torch.zeros_like(points[0].outer(points[0]))
    for label in range(len(means)):
        members = points[targets == label].cpu().numpy()
        if not len(members):
            continue
        if len(members) <= members.shape[1]:
            raise ValueError(f"class {label} has {len(members)} examples, but {members.shape[1]} dimensions")
        # The algorithm starts from random subsets; a fixed seed makes the estimate reproducible.
        estimate = MinCovDet(random_state=0).fit(members)
        robust_means[label] = torch.from_numpy(estimate.location_).to(robust_means)
        # Weighted by class size, as the pooled within-class covariance is.
        covariance += torch.from_numpy(estimate.covariance_).to(covariance) * (len(members) / len(points))
    return robust_means, covariance
