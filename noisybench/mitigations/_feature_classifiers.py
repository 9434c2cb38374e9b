"""Linear classifiers on trained features, which replace the trained classifier of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.nn.features import last_linear
from noisybench.nn.spectrum import check_features
from noisybench.training.training_set import DiskTensor

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

Inputs = Tensor | DiskTensor

NEVER_PREDICTED = -1e30
"""Bias of a class without observed examples: below any score, which falls with the square of a distance, but finite."""


@torch.no_grad()
def extract_features(task: Learner, network: nn.Module, inputs: Inputs) -> Tensor:
    """Return the (N, D) float32 inputs of a network's classifier, in evaluation mode, without augmentation.

    Raises:
        UserError: the features are not finite.
    """
    training = network.training
    network.eval()
    parts, size = [], task.eval_batch_size(inputs)
    for start in range(0, len(inputs), size):
        images = task.normalize(inputs[start : start + size])
        with task.autocast():
            # Under autocast features can be in bfloat16, which has too few digits for the sums over examples that follow.
            parts.append(task.features_of(network, images).float())
    network.train(training)
    features = torch.cat(parts)
    check_features(features)
    # The following steps need double precision, which Apple's devices do not support.
    return features.cpu() if features.device.type == "mps" else features


def replace_classifier(network: nn.Module, weights: Tensor, bias: Tensor) -> None:
    """Set the last linear layer of a network to (C, D) weights and (C,) bias."""
    last = last_linear(network)
    assert last is not None  # checked before training
    layer: Any = last[1]
    with torch.no_grad():
        layer.weight.copy_(weights)
        # The new classifier has an offset for each class, even if the trained one had none.
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]))
        layer.bias.copy_(bias)


def set_classifier(network: nn.Module, classifier: nn.Linear) -> None:
    """Put another module in the place of the last linear layer of a network.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> set_classifier(network, nn.Linear(4, 3))
    >>> network(torch.zeros(1, 4)).shape
    torch.Size([1, 3])
    """
    last = last_linear(network)
    assert last is not None  # checked before training
    parent, _, name = last[0].rpartition(".")
    setattr(network.get_submodule(parent), name, classifier)


def feature_width(network: nn.Module) -> int | None:
    """Return the number of inputs D of a network's linear classifier; None if it has none."""
    last = last_linear(network)
    return last[1].in_features if last else None


def predict_linear(points: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return the (N,) classes that a linear classifier predicts for (N, D) points."""
    return (points.double() @ weights.double().T + bias.double()).argmax(1)


def gaussian_classifier(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (C, D) weights and (C,) bias of a classifier by Mahalanobis distance.

    Its scores are minus half the squared distances to the class means, up to a term that all classes share.

    Args:
        means: (C, D) class means.
        precision: (D, D) inverse of the common covariance.

    >>> weights, bias = gaussian_classifier(torch.tensor([[0.0], [2.0]]), torch.eye(1))
    >>> predict_linear(torch.tensor([[0.9], [1.1]]), weights, bias)
    tensor([0, 1])
    """
    # The precision is symmetric, so that one product serves both the linear and the constant terms of the distance.
    weights = means @ precision
    return weights, -0.5 * (weights * means).sum(1)
