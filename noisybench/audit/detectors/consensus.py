"""Estimate of the label noise from the agreement of labels between nearest neighbors, without a classifier."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noisybench.audit.detectors.result import Floats, Labels

STEPS = 399
"""Number of updates by the optimizer, as in the first estimate of the authors' code."""

LEARNING_RATE = 0.1
"""Learning rate of Adam."""

DIAGONAL, OFF_DIAGONAL = 4.0, -1.0
"""Logits of the transition matrix with which the optimization starts."""


def consensus_transition(triples: Labels, num_classes: int, steps: int = STEPS) -> tuple[Floats, Floats]:
    """Return the (C, C) transition matrix and the (C,) class probabilities that explain the consensus of labels best.

    An example and its two nearest neighbors are taken to have the same true class, and labels that are independent given it
    (HOC, Zhu, Song and Liu 2021). Then the classes p and the matrix T, whose rows are true classes, decide how often one
    label, each pair and each triple of labels occur. The sum of the Euclidean distances to the observed frequencies of these
    three kinds is minimized by Adam, from a matrix near the identity and equal classes.

    Args:
        triples: (N, 3) labels of examples and of their two nearest neighbors.
        num_classes: number of classes C.
        steps: number of updates by the optimizer.

    Example:
        >>> clean, draws = np.arange(3000) % 2, np.random.default_rng(0).random((3000, 3))
        >>> labels = np.where(draws < 0.2, 1 - clean[:, None], clean[:, None])
        >>> consensus_transition(labels, 2)[0].round(1)
        array([[0.8, 0.2],
               [0.2, 0.8]])
    """
    observed = [_frequencies(triples[:, : order + 1]) for order in range(3)]
    logits = torch.full((num_classes, num_classes), OFF_DIAGONAL, dtype=torch.float64)
    logits.fill_diagonal_(DIAGONAL)
    class_logits = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    optimizer = torch.optim.Adam([logits.requires_grad_(), class_logits.requires_grad_()], lr=LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        transition, classes = logits.softmax(1), class_logits.softmax(0)
        distances = [_distance(transition, classes, labels, shares) for labels, shares in observed]
        torch.stack(distances).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return logits.detach().softmax(1).numpy(), class_logits.detach().softmax(0).numpy()


def _frequencies(labels: Labels) -> tuple[Tensor, Tensor]:
    """Return the (M, R) different rows of labels and the (M,) fractions of rows that they are."""
    rows, counts = np.unique(labels, axis=0, return_counts=True)
    return torch.from_numpy(rows), torch.from_numpy(counts / len(labels))


def _distance(transition: Tensor, classes: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """Return the Euclidean distance between the expected frequencies of R labels and the observed ones.

    Its square is expanded, so that the C^R expected frequencies need no memory: their squared norm is a sum over pairs of
    true classes, and only rows of labels that occur contribute to the product with the observed ones.
    """
    order = labels.shape[1]
    expected = transition[:, labels].prod(2).T @ classes
    norm = classes @ (transition @ transition.T) ** order @ classes
    return (norm - 2 * expected @ shares + shares @ shares).clamp_min(torch.finfo(torch.float64).eps).sqrt()
