"""NMTune."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.mitigations._heads import OnMLP
from noisybench.nn.features import captured
from noisybench.nn.frozen import Tuned
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

COLLAPSED = 0.1
"""Features of the head shorter than this share of the backbone's are noted: the covariance term rewards shrinking."""


class NMTune(OnMLP, LossWrapper):
    """Trains a perceptron on features of a noisily pre-trained backbone, with three regularisers (Chen et al. 2024).

    With features f of the frozen backbone and z of the head, it adds to the stack's objective: consistency, the squared
    distance of f and z after normalisation; covariance, the squared off-diagonal covariances of z over its dimensions;
    and dominance, minus the largest singular values' share of the sum for the batch's z. `mlp_probe` is the same head
    without them.

    `paper` gives all three the weight `strength`, and counts the first singular value. `released` has the weights
    of the authors' code (1, 0.04, 0.001), there with a consistency averaged over dimensions as well and the mean share
    of the first five. Weights given by name replace either. Where the code compares two augmented views, here both
    features are those of the same view: features are computed once. Each term is in the rows, unweighted, and a note
    tells when z shrinks, which is a trivial way to a small covariance.
    """

    variant: Literal["paper", "released"] = parameter("paper", help="whose weights and forms of the three terms")
    strength: float = parameter(0.01, ge=0, low=1e-4, high=0.1, log=True, help="weight of all three, for `paper`")
    consistency: float | None = parameter(None, ge=0, help="weight of the consistency term, instead of the variant's")
    covariance: float | None = parameter(None, ge=0, help="weight of the covariance term, instead of the variant's")
    dominance: float | None = parameter(None, ge=0, help="weight of the dominance term, instead of the variant's")
    top: int | None = parameter(None, ge=1, low=1, high=10, help="singular values counted, instead of the variant's")
    center: bool = parameter(False, help="subtract the batch mean before the singular values are taken")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Both variants."""
        return {}, {"variant": "released", "center": True, "hidden_layers": 2, "residual": False}

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of consistency, covariance and dominance."""
        usual = (self.strength,) * 3 if self.variant == "paper" else (1.0, 0.04, 0.001)
        given = (self.consistency, self.covariance, self.dominance)
        first, second, third = (known if each is None else each for known, each in zip(usual, given, strict=True))
        return first, second, third

    _told: Tensor | None = None

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """(B,) the stack's objective plus the batch's weighted terms."""
        with contextlib.ExitStack() as watching:
            watched = [
                tuple(watching.enter_context(captured(part, inputs=True)) for part in (each.head, each.classifier))
                for each in task.networks
                if isinstance(each, Tuned)
            ]
            loss = inner_loss(batch)
        # Of several networks, the objective may have asked all or one.
        for entering, leaving in watched:
            if entering:
                loss = loss + self._regularised(entering[-1].detach().float(), leaving[-1].float())
        return loss

    def _regularised(self, before: Tensor, after: Tensor) -> Tensor:
        """The weighted terms for one network's features before and after the head, which are told in the epoch's row."""
        terms = torch.stack([
            consistency(after, before, by_element=self.variant == "released"),
            covariance(after),
            dominance(after, self.top or (1 if self.variant == "paper" else 5), self.center),
        ])  # fmt: skip
        lengths = torch.stack([after.detach().norm(dim=1).mean(), before.norm(dim=1).mean()])
        told = torch.cat([terms.detach(), lengths, torch.ones_like(lengths[:1])])
        self._told = told if self._told is None else self._told + told
        return (terms * terms.new_tensor(self.weights)).sum()

    def on_epoch_start(self, task: Learner) -> None:
        """Nothing was told of this epoch yet."""
        self._told = None

    def on_epoch_end(self, task: Learner) -> None:
        """The terms go into the epoch's row."""
        assert self._told is not None
        first, second, third, after, before, count = self._told.tolist()
        self.diagnostics |= {
            "consistency": first / count,
            "covariance": second / count,
            "dominance": third / count,
            "feature_norm": after / count,
        }
        if after < COLLAPSED * before:
            self.warnings.append(
                f"features of the head have shrunk to {after / max(before, 1e-12):.1%} of the backbone's"
            )


def consistency(changed: Tensor, features: Tensor, by_element: bool = False) -> Tensor:
    """Mean squared distance of (B, D) changed features and features, each of norm one, in [0, 4].

    Args:
        changed: of the head.
        features: of the backbone; no gradient reaches them.
        by_element: the mean over all entries, which is the distance divided by D.
    """
    difference = functional.normalize(changed, dim=1) - functional.normalize(features.detach(), dim=1)
    squares: Tensor = difference.square()
    return squares.mean() if by_element else squares.sum(1).mean()


def covariance(changed: Tensor) -> Tensor:
    """Sum of squared off-diagonal sample covariances of (B, D) features, over D.

    Raises:
        ValueError: there is one row alone, which has no covariance.
    """
    if len(changed) < 2:
        raise ValueError("a covariance needs at least two rows")
    centred = changed - changed.mean(0)
    matrix = centred.T @ centred / (len(changed) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / changed.shape[1]


def dominance(changed: Tensor, top: int = 1, center: bool = False) -> Tensor:
    """Minus the mean share of the largest singular values of (B, D) features in the sum of all, in [-1, 0].

    Args:
        changed: uncentred, not normalised.
        top: how many; at most as many as there are.
        center: subtract the mean row.
    """
    singular = torch.linalg.svdvals(changed - changed.mean(0) if center else changed)
    shares: Tensor = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)
    return -shares[:top].mean()
