"""T-loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TLoss(LossFunction):
    """Minimize the negative log-likelihood of each image's error under a Student t-distribution (T-loss).

    The error of an image with D pixels is the vector of its probabilities minus its one-hot labels; images with a large
    error have less influence (Gonzalez-Jimenez et al. 2023). The degrees of freedom are learned together with the
    network: nu = exp(u) + 1e-8, where u starts at `start`. The paper has one foreground class and an identity scale
    matrix; here the errors of every class but the background are used. The value is divided by D, so that it is per
    pixel like other losses.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = [log Γ(nu / 2) - log Γ((nu + D) / 2) + D / 2 · log(π · nu) + (nu + D) / 2 · log(1 + ‖p - y‖² / nu)] / D",
        reference="https://github.com/Digital-Dermatology/t-loss",
        commit="f132e8767c2191463bbcc2c15310cd8df1b7ab30",
        license="Apache-2.0",
        compared="loss, gradients of predictions and of the degrees of freedom, with the scale of the code",
        difference="4.6e-5 in losses up to 254, 7.2e-7 in gradients up to 14, 3.1e-5 in that of the degrees of freedom",
        golden=("t_loss",),
        deviations=(
            Deviation(
                "the code has a scale matrix of 1 / e, which multiplies squared errors by e; here it is the identity",
                "the paper's loss has the identity",
                "gradients of the frozen vectors are smaller by a factor of 1.0 (large errors) to 2.7 (small errors)",
            ),
            Deviation(
                "paper and code have one foreground class; here the errors of all classes but the background are joined",
                "masks have several classes",
                "none with one foreground class",
            ),
            Deviation(
                "the code sums over the D pixels of an image; here the loss is divided by D",
                "losses of a stack are per pixel, and their scale must not depend on the image's size",
                "a factor of 1 / D, which Adam ignores; with SGD multiply the learning rate by D",
            ),
        ),
    )

    start: float = parameter(1.0, low=-1.0, high=3.0, help="Initial logarithm of the degrees of freedom")

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Add the learned degrees of freedom."""
        task.add_head("degrees_of_freedom", lambda: _DegreesOfFreedom(self.start))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return nats per pixel, with the same value for all pixels of an image."""
        probabilities = probabilities_in_float32(task.logits(batch.inputs))
        # Errors sum to zero over the classes, so that of the background adds no information.
        errors = (probabilities - batch.targets.float())[:, 1:]
        if batch.has_label is not None:
            errors = errors * batch.has_label[:, None]
        images = len(batch.inputs)
        # (B,), with the pixels of each image in consecutive rows
        squares = errors.square().view(images, -1).sum(1)
        dimensions = torch.full_like(squares, errors.numel() / images)
        if batch.has_label is not None:
            # D counts labeled pixels only: with error zero, unlabeled ones would look like perfect predictions.
            dimensions = batch.has_label.view(images, -1).sum(1) * float(errors.shape[1])
        head = task.heads["degrees_of_freedom"]
        assert isinstance(head, _DegreesOfFreedom)
        losses = student_loss(squares, dimensions.clamp_min(1), head())
        self.diagnostics["degrees_of_freedom"] = float(head().detach())
        # An image without a labeled pixel has D = 0, and would give 0 / 0.
        return (losses / dimensions.clamp_min(1)).repeat_interleave(len(errors) // images)


class _DegreesOfFreedom(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(start))

    def forward(self) -> Tensor:
        return self.logarithm.exp() + 1e-8


def student_loss(squares: Tensor, dimensions: Tensor, degrees: Tensor) -> Tensor:
    """Return the (B,) negative log-density of a multivariate t-distribution with identity scale.

    Args:
        squares: (B,) squared norm of each error.
        dimensions: (B,) number of entries D of each error.
        degrees: degrees of freedom, above 0.

    One dimension and one degree of freedom are the Cauchy distribution, with density 1 / pi at 0:

    >>> one = torch.ones(1)
    >>> student_loss(torch.zeros(1), one, one)
    tensor([1.1447])
    """
    # Logarithms throughout: D is the number of pixels, and the gamma function overflows float32 above about 35.
    half = (degrees + dimensions) / 2
    return (
        -torch.lgamma(half)
        + torch.lgamma(degrees / 2)
        + dimensions / 2 * (math.log(math.pi) + degrees.log())
        + half * torch.log1p(squares / degrees)
    )
