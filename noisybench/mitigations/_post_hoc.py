"""What mitigations share that put another linear classifier on trained features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.nn.features import classifier
from noisybench.nn.spectrum import check_features
from noisybench.training.training_set import DiskTensor

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

Inputs = Tensor | DiskTensor


@torch.no_grad()
def features(task: Learner, network: nn.Module, inputs: Inputs) -> Tensor:
    """(N, D) float32 inputs of a network's classifier, in evaluation mode, without augmentation.

    Raises:
        UserError: they are not finite.
    """
    training = network.training
    network.eval()
    parts, size = [], task.eval_batch_size(inputs)
    for start in range(0, len(inputs), size):
        images = task.normalize(inputs[start : start + size])
        with task.autocast():
            parts.append(task.features_of(network, images).float())
    network.train(training)
    found = torch.cat(parts)
    check_features(found)
    # Double precision is needed from here on, which Apple's devices lack.
    return found.cpu() if found.device.type == "mps" else found


def replace_classifier(network: nn.Module, weights: Tensor, bias: Tensor) -> None:
    """Give a network another linear classifier: (C, D) weights and (C,) bias."""
    found = classifier(network)
    assert found is not None  # checked before training
    last: Any = found[1]
    with torch.no_grad():
        last.weight.copy_(weights)
        if last.bias is None:
            last.bias = nn.Parameter(torch.zeros_like(last.weight[:, 0]))
        last.bias.copy_(bias)


def feature_width(network: nn.Module) -> int | None:
    """Number of inputs D of a network's classifier; None where it has no linear one."""
    found = classifier(network)
    return found[1].in_features if found else None


def predicted(points: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """(N,) classes that a linear classifier predicts for (N, D) points."""
    return (points.double() @ weights.double().T + bias.double()).argmax(1)


def gaussian_classifier(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """(C, D) weights and (C,) bias whose scores are minus half the squared Mahalanobis distances, but for a common term.

    Args:
        means: (C, D) of the classes.
        precision: (D, D) inverse of their common covariance.
    """
    weights = means @ precision
    return weights, -0.5 * (weights * means).sum(1)
