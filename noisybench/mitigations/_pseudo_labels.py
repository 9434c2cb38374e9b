"""Pseudo-labels and their weights, mixed and contrastive terms: the functions of PLS, LSA and DivideMix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.evaluation.mixture import two_components


def sharpen(probabilities: Tensor, power: float) -> Tensor:
    """Return (B, C) probabilities raised to a power and normalized; a power above 1 moves mass to the largest.

    >>> sharpen(torch.tensor([[0.8, 0.2]]), power=2.0)
    tensor([[0.9412, 0.0588]])
    """
    raised = probabilities**power
    return raised / raised.sum(1, keepdim=True)


def pseudo_loss(pseudo_labels: Tensor, logits: Tensor) -> Tensor:
    """Return the (N,) cross-entropies in nats of (N, C) current scores against (N, C) pseudo-labels."""
    # The logarithm of a softmax would be infinite where a probability underflows, and 0 times infinity is NaN.
    return -(pseudo_labels * logits.log_softmax(1)).sum(1)


def pseudo_label_weights(pseudo_labels: Tensor, logits: Tensor, flagged: Tensor) -> Tensor:
    """Return (N,) weights of the pseudo-labels: 1 for unflagged examples, else the posterior of a low pseudo-loss.

    The mixture is fitted to the flagged examples only. If at most two are flagged, all weights are 1.

    Args:
        pseudo_labels: (N, C) targets that the flagged examples were trained on.
        logits: (N, C) current scores.
        flagged: (N,) bool.
    """
    weights = torch.ones_like(logits[:, 0])
    if int(flagged.sum()) > 2:
        # The losses are scaled within the flagged examples, so that the weights are relative: the mixture splits them
        # even if all pseudo-labels are correct.
        weights[flagged] = 1 - two_components(pseudo_loss(pseudo_labels[flagged], logits[flagged])).high
    return weights


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, partner: Tensor, mix_weight: float
) -> Tensor:
    """Return (B,) nats of mixed inputs against the targets of both partners.

    The values are scaled so that their mean is normalized by the sum of the weights.

    Args:
        logits: (B, C) scores of inputs mixed from each example and its partner.
        targets: (B, C) targets of the examples before mixing.
        weights: (B,) weight of each target.
        partner: (B,) positions of the partners.
        mix_weight: weight of the example itself, in [0.5, 1]; the partner has the rest.
    """
    # The logarithm of a softmax in half precision would reach log 0.
    losses = -logits.float().log_softmax(1)
    # The partners are a permutation of the batch, so their weights have the same sum.
    scale = len(weights) / weights.sum().clamp_min(1e-8)
    example_loss = weights * (targets * losses).sum(1)
    partner_loss = weights[partner] * (targets[partner] * losses).sum(1)
    return scale * (mix_weight * example_loss + (1 - mix_weight) * partner_loss)


def class_pairs(targets: Tensor, partner: Tensor, mix_weight: float) -> Tensor:
    """Return (B, B) weights of pairs of the same class, normalized by row and mixed with the partner's row (LSA)."""
    classes = targets.argmax(1)
    same = (classes[:, None] == classes[None, :]).to(targets.dtype)
    # Each example is in its own class, so no row is empty.
    same = same / same.sum(1, keepdim=True)
    return mix_weight * same + (1 - mix_weight) * same[partner]


def interpolated_pairs(targets: Tensor, weights: Tensor, partner: Tensor, mix_weight: float) -> Tensor:
    """Return (B, B) weights of pairs between class supervision and instance discrimination (PLS).

    w_i w_j [same class] + (1 - w_i)^2 [i = j]: an example with a trusted target is paired with its class, one with a
    distrusted target with itself. The class is the largest entry of the mixed target; rows are normalized after mixing.
    """
    classes = (mix_weight * targets + (1 - mix_weight) * targets[partner]).argmax(1)
    same = (classes[:, None] == classes[None, :]).to(targets.dtype)
    # The diagonal is w^2 + (1 - w)^2 >= 1/2, so the sum of a row, mixed or not, cannot vanish.
    pairs = weights[:, None] * weights[None, :] * same + torch.diag((1 - weights) ** 2)
    pairs = mix_weight * pairs + (1 - mix_weight) * pairs[partner]
    return pairs / pairs.sum(1, keepdim=True)


def contrastive_loss(mixed: Tensor, keys: Tensor, pairs: Tensor, temperature: float) -> Tensor:
    """Return the (B,) contrastive loss in nats of (B, D) projections against (B, D) keys with (B, B) pair weights."""
    similarity = functional.normalize(mixed.float(), dim=1) @ functional.normalize(keys.float(), dim=1).T
    return -(pairs * (similarity / temperature).log_softmax(1)).sum(1)


def uniform_prior_penalty(logits: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence in nats of the uniform distribution from the mean prediction.

    >>> uniform_prior_penalty(torch.zeros(3, 2)).abs()
    tensor(0.)
    """
    # KL(u || q) = -1/C sum_c log(C q_c): unlike KL(q || u), it grows without bound if a class is never predicted.
    mean = logits.float().softmax(1).mean(0).clamp_min(1e-12)
    return -(mean * len(mean)).log().mean()
