"""NMTune."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._probe_heads import MLPHeadBuilder
from noisybench.nn.features import capture_activations
from noisybench.nn.frozen import BackboneWithHead
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

COLLAPSED = 0.1
"""Ratio of the head's to the backbone's feature norm below which a warning is recorded.

The covariance term rewards features that shrink toward zero.
"""

RELEASED_WEIGHTS = (1.0, 0.04, 0.001)
"""Weights of consistency, covariance and dominance in the authors' code."""


class NMTune(MLPHeadBuilder, LossWrapper):
    """Train a regularized head on features of a noisily pre-trained backbone (NMTune).

    Three terms of the loss keep the features of the head close to those of the backbone, uncorrelated, and with one
    dominant direction (Chen et al. 2024).

    With features f of the frozen backbone and h of the perceptron, the terms are: consistency, the squared distance of
    f and h after normalization; covariance, the squared off-diagonal covariances of h over its dimension; and
    dominance, minus the fraction of the largest singular value in the sum of all for the batch's h. `mlp_probe` is the
    same head without them.

    `paper` gives all three terms the weight `strength` and counts the first singular value. `released` uses the weights
    of the authors' code (1, 0.04, 0.001), a consistency averaged over dimensions, and the mean fraction of the first
    five singular values. Weights set by name replace either. The authors' code compares two augmented views; here both
    features are those of the same view, because features are computed once. Rows contain each unweighted term, and a
    warning if h shrinks, which is a trivial way to reduce the covariance.
    """

    fidelity = Fidelity(
        formula="L = CE(p, y) + consistency · ‖f/‖f‖ - h/‖h‖‖² + covariance · Σ_i≠j Cov(h)_ij² / dim - dominance · σ_1 / Σ σ_i",
        reference="https://github.com/Hhhhhhao/Noisy-Model-Learning",
        commit="f249dceebd08523acbef868ece897d4fce42c9e1",
        license="not stated",
        compared="the variant `released`: loss, each term and their gradients on a batch; outputs of the head in both modes",
        difference="2.4e-10 in the gradient, none in the loss, 1.8e-7 in the outputs of the head",
        golden=("nmtune",),
        deviations=(
            Deviation(
                "the code draws two views of an image and compares the features of one with the head's of the other; here "
                "both are those of one view",
                "features are computed once; the published commands turn the strong view off as well",
                "none if both views are the same; with crops, the consistency also asks for equal features of both",
            ),
            Deviation(
                "`variant=paper` has no code to compare with",
                "the released code has other weights and forms than the paper: each has a variant",
                "consistency is larger by the number of dimensions; weights are 0.01 instead of 1, 0.04 and 0.001",
            ),
        ),
    )

    variant: Literal["paper", "released"] = parameter("paper", help="Weights and forms of the three terms")
    strength: float = parameter(
        0.01, ge=0, low=1e-4, high=0.1, log=True, help="Weight of all three terms for the variant `paper`"
    )
    consistency: float | None = parameter(
        None, ge=0, help="Weight of the consistency term; by default that of the variant"
    )
    covariance: float | None = parameter(
        None, ge=0, help="Weight of the covariance term; by default that of the variant"
    )
    dominance: float | None = parameter(None, ge=0, help="Weight of the dominance term; by default that of the variant")
    top: int | None = parameter(
        None,
        ge=1,
        low=1,
        high=10,
        help="Number of singular values in the dominance term; by default that of the variant",
    )
    center: bool = parameter(False, help="Subtract the batch mean before the singular values are computed")

    _totals: Tensor | None = None

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both variants."""
        return {}, {"variant": "released", "center": True, "hidden_layers": 2, "residual": False}

    @property
    def weights(self) -> tuple[float, float, float]:
        """Weights of consistency, covariance and dominance."""
        defaults = (self.strength,) * 3 if self.variant == "paper" else RELEASED_WEIGHTS
        overrides = (self.consistency, self.covariance, self.dominance)
        first, second, third = (
            default if override is None else override for default, override in zip(defaults, overrides, strict=True)
        )
        return first, second, third

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return (B,) values of the stack's loss plus the weighted terms of the batch."""
        # Hooks read the features that the loss computes anyway, which saves a second forward pass.
        with contextlib.ExitStack() as hooks:
            captured = [
                tuple(
                    hooks.enter_context(capture_activations(part, inputs=True))
                    for part in (network.head, network.classifier)
                )
                for network in task.networks
                if isinstance(network, BackboneWithHead)
            ]
            loss = inner_loss(batch)
        # The loss may have used all of several networks, or only one.
        for before_head, after_head in captured:
            if before_head:
                # In float32, because there is no singular value decomposition in bfloat16.
                loss = loss + self._regularizer(before_head[-1].detach().float(), after_head[-1].float())
        return loss

    def _regularizer(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the sum of the weighted terms for the features before and after the head, and add to the totals."""
        # With at most as many rows as columns, two terms share the products of rows.
        gram = gram_matrix(after) if len(after) <= after.shape[1] else None
        terms = torch.stack([
            consistency(after, before, by_element=self.variant == "released"),
            covariance(after, gram),
            dominance(after, self.top or (1 if self.variant == "paper" else 5), self.center, gram),
        ])  # fmt: skip
        norms = torch.stack([after.detach().norm(dim=1).mean(), before.norm(dim=1).mean()])
        # Totals stay on the device until the end of the epoch, so that no step waits for them.
        totals = torch.cat([terms.detach(), norms, torch.ones_like(norms[:1])])
        self._totals = totals if self._totals is None else self._totals + totals
        return (terms * terms.new_tensor(self.weights)).sum()

    def on_epoch_start(self, task: Learner) -> None:
        """Reset the totals."""
        self._totals = None

    def on_epoch_end(self, task: Learner) -> None:
        """Report the mean terms of the epoch."""
        assert self._totals is not None
        # One transfer from the device for all six totals.
        first, second, third, after, before, count = self._totals.tolist()
        self.diagnostics |= {
            "consistency": first / count,
            "covariance": second / count,
            "dominance": third / count,
            "feature_norm": after / count,
        }
        if after < COLLAPSED * before:
            self.warnings.append(
                f"the features of the head have shrunk to {after / max(before, 1e-12):.1%} of the backbone's"
            )


def consistency(transformed: Tensor, features: Tensor, by_element: bool = False) -> Tensor:
    """Return the mean squared distance of two (B, D) sets of features after normalization, in [0, 4].

    Args:
        transformed: features of the head.
        features: features of the backbone; no gradient reaches them.
        by_element: average over all entries, which divides the distance by D.

    >>> consistency(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor(2.)
    """
    difference = functional.normalize(transformed, dim=1) - functional.normalize(features.detach(), dim=1)
    squares: Tensor = difference.square()
    return squares.mean() if by_element else squares.sum(1).mean()


def covariance(transformed: Tensor, gram: Tensor | None = None) -> Tensor:
    """Return the sum of squared off-diagonal sample covariances of (B, D) features, divided by D.

    Args:
        transformed: features of the head.
        gram: (B, B) result of `gram_matrix` for them, if it is known; it saves a product of matrices.

    Raises:
        ValueError: there is only one row, which has no covariance.

    >>> covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    tensor(4.)
    """
    if len(transformed) < 2:
        raise ValueError("a covariance needs at least two rows")
    centered = transformed - transformed.mean(0)
    if gram is None:
        matrix = centered.T @ centered / (len(transformed) - 1)
        # All entries minus the diagonal: no (D, D) mask is needed.
        return (matrix.square().sum() - matrix.diagonal().square().sum()) / transformed.shape[1]
    # Products of rows have the same sum of squares as products of columns.
    squares = centered_gram(gram).square().sum() / (len(transformed) - 1) ** 2
    variances = centered.to(gram).square().sum(0) / (len(transformed) - 1)
    return ((squares - variances.square().sum()) / transformed.shape[1]).to(transformed)


def dominance(transformed: Tensor, top: int = 1, center: bool = False, gram: Tensor | None = None) -> Tensor:
    """Return minus the mean fraction of the largest singular values of (B, D) features in their sum, in [-1, 0].

    Args:
        transformed: features, neither centered nor normalized.
        top: number of largest singular values; at most all of them are used.
        center: subtract the mean row.
        gram: (B, B) result of `gram_matrix` for the features, if it is known.

    >>> dominance(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor(-0.7500)
    """
    if gram is None:
        points = transformed - transformed.mean(0) if center else transformed
        # The smaller one of both matrices has all singular values that are not zero.
        gram = gram_matrix(points if len(points) <= points.shape[1] else points.T)
    elif center:
        gram = centered_gram(gram)
    # Without singular vectors, whose gradient need not be finite if two singular values are equal.
    try:
        squares = torch.linalg.eigvalsh(gram).flip(0)
    except RuntimeError:  # torch.linalg.LinAlgError, which is not typed
        if gram.isfinite().all():
            raise
        # Training has diverged, which is reported at the end of the epoch, as for any other loss.
        return (gram.sum() * torch.nan).to(transformed)
    # What rounding leaves of zero has no direction, and gets no gradient.
    is_positive = squares > squares[0].detach() * len(squares) * torch.finfo(squares.dtype).eps
    singular = torch.where(is_positive, squares, 1).sqrt() * is_positive
    shares: Tensor = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)
    return -shares[:top].mean().to(transformed)


def gram_matrix(points: Tensor) -> Tensor:
    """Return the (B, B) products of the rows of (B, D) points, as float64.

    Its eigenvalues are the squared singular values. The squares need the digits of float64, and then give gradients that are
    more accurate than those of a float32 decomposition, in less time. On Apple's devices, which have no float64, it is on
    the CPU.

    >>> gram_matrix(torch.tensor([[3.0, 4.0]]))
    tensor([[25.]], dtype=torch.float64)
    """
    gram: Tensor = _Gram.apply(points.cpu() if points.device.type == "mps" else points)
    return gram


def centered_gram(gram: Tensor) -> Tensor:
    """Return the (B, B) products of rows minus the mean row, from those of the rows.

    >>> centered_gram(gram_matrix(torch.tensor([[1.0], [3.0]])))
    tensor([[ 1., -1.],
            [-1.,  1.]], dtype=torch.float64)
    """
    means = gram.mean(0)
    return gram - means - means[:, None] + means.mean()


class _Gram(torch.autograd.Function):
    """Products of rows in float64, with a gradient by one product in the precision of the points."""

    @staticmethod
    def forward(context: Any, points: Tensor) -> Tensor:
        """Return the (B, B) products."""
        context.save_for_backward(points)
        doubled = points.double()
        return doubled @ doubled.T

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the (B, D) gradient."""
        (points,) = context.saved_tensors
        (gradient,) = gradients
        product: Tensor = (gradient + gradient.T).to(points.dtype) @ points
        return product
