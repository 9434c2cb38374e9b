"""Class-conditional Gaussians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.mitigations._post_hoc import feature_width, features, gaussian_classifier, replace_classifier
from noisybench.nn.spectrum import NEGLIGIBLE, Spectrum, spectrum_of
from noisybench.training.roles import PostProcessor
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Mahalanobis(PostProcessor):
    """Replaces the trained classifier by Gaussians around class means in the features (Lee et al. 2018).

    All classes share one covariance, so that the nearest mean by Mahalanobis distance is a linear classifier, which is put
    in the place of the trained one. `robust` takes means and covariances from minimum covariance determinants, which wrong
    labels move less (robust generative classifier, Lee et al. 2019; there the features of several layers are
    combined as well, here it is the last). `identity` is the nearest class mean. Prior probabilities are equal.

    Features have as many dimensions as the classifier has inputs; `rank` keeps the leading principal components.
    A robust estimate needs more examples of each class than dimensions.
    """

    covariance: Literal["empirical", "robust", "identity"] = parameter(
        "empirical", help="of all classes together; robust to outliers; or none, which is the nearest class mean"
    )
    rank: int | None = parameter(None, ge=1, help="leading principal components of the features used; all by default")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """The three kinds."""
        return {"rank": 20}, {"covariance": "robust", "rank": 3}, {"covariance": "identity"}

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """There are features, and enough examples for their covariance."""
        width = feature_width(network)
        if width is None:
            return [f"`{budget.network}` has no linear classifier to replace; choose another network"]
        if self.rank is not None and self.rank > width:
            return [f"rank: the features of `{budget.network}` have {width} dimensions, but {self.rank} are asked for"]
        if self.covariance != "identity" and (self.rank or width) >= examples:
            return [
                f"rank: {examples} examples cannot show the covariance of {self.rank or width} dimensions; set a rank below "
                "the number of examples, or covariance=identity"
            ]
        return []

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Replace the classifier of every network.

        Raises:
            UserError: a class has too few examples for a robust estimate.
        """
        for network in task.networks:
            points = features(task, network, training_set.inputs)
            targets = training_set.targets.to(points.device)
            found = spectrum_of(points, targets, training_set.num_classes)
            replace_classifier(network, *self._classifier(found, points, targets))
        return True

    def _classifier(self, found: Spectrum, points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        leading = found.vectors[:, : self.rank or len(found.values)]
        means = (found.class_means() - found.mean) @ leading
        if self.covariance == "identity":
            precision = torch.eye(leading.shape[1], dtype=means.dtype, device=means.device)
        elif self.covariance == "empirical":
            precision = inverse(leading.T @ found.within_class_covariance() @ leading)
        else:
            means, within = robust_moments((points.double() - found.mean) @ leading, targets, means)
            precision = inverse(within)
        weights, bias = gaussian_classifier(means, precision)
        # A class that no label names has no mean, and is not predicted.
        bias = torch.where(found.shares > 0, bias, bias.new_full((), -1e4))
        whole = weights @ leading.T
        return whole, bias - whole @ found.mean


def inverse(covariance: Tensor) -> Tensor:
    """Pseudo-inverse of a (D, D) covariance; directions without variance count nothing."""
    found: Tensor = torch.linalg.pinv(covariance, rtol=NEGLIGIBLE, hermitian=True)
    return found


def robust_moments(points: Tensor, targets: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """(C, D) means and (D, D) covariance of all classes together, by minimum covariance determinants.

    Args:
        points: (N, D).
        targets: (N,) class indices.
        means: (C, D), kept for a class without examples.

    Raises:
        UserError: a class has no more examples than dimensions.
    """
    from sklearn.covariance import MinCovDet

    found, within = means.clone(), torch.zeros_like(points[0].outer(points[0]))
    for each in range(len(means)):
        own = points[targets == each].cpu().numpy()
        if not len(own):
            continue
        if len(own) <= own.shape[1]:
            raise UserError(
                f"mitigations.mahalanobis: class {each} has {len(own)} examples, too few for a robust covariance of "
                f"{own.shape[1]} dimensions; set a smaller `rank`, or covariance=empirical"
            )
        estimate = MinCovDet(random_state=0).fit(own)
        found[each] = torch.from_numpy(estimate.location_).to(found)
        within += torch.from_numpy(estimate.covariance_).to(within) * (len(own) / len(points))
    return found, within
