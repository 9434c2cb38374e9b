"""Confident learning with spatial label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._confident_pixels import ConfidentPixels
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.training_set import TrainingSet


class CLSLSR(ConfidentPixels, LossWrapper):
    """Smooth the labels of the pixels that confident learning flags (spatial label smoothing, Zhang et al. 2020c).

    Networks that have not seen an image predict it, and cleanlab flags pixels whose labels are likely incorrect, as in
    `pixel_confident_learning`. A flagged pixel then counts with one minus `smoothing` of its own class and the rest of all
    others; other labels stay as they are. It changes the targets of any loss.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = CE(p, y'),  y' = (1 - smoothing) · y + smoothing · (1 - y) / (C - 1) where a pixel is flagged, y elsewhere",
        reference="https://github.com/HiLab-git/PyMIC",
        commit="8bcebd62ad4360d7dc5143907f56dd793dd5e304",
        license="Apache-2.0",
        compared="loss and gradient of flagged and other pixels of two classes, with the probabilities that the code clamps",
        difference="0 in the loss, 1.4e-9 in the gradient",
        golden=("pymic_noisy_labels",),
        deviations=(
            Deviation(
                "with more than two classes the code gives `smoothing` to each other class, so that the targets of a pixel "
                "have a sum above one; here the other classes share it",
                "targets are probabilities; the paper has two classes",
                "none for two classes",
            ),
            Deviation(
                "the code replaces p by 0.999 p + 0.0005 before the logarithm; here the logarithm is exact",
                "a general safeguard of its losses, not part of the method",
                "at most 7.6 nats instead of more for a label with a probability below 0.0005",
            ),
            Deviation(
                "flags need a predicted class that differs from the label, from networks of other folds; the code prunes by "
                "class and by noise rate with cleanlab 1.0.1, from a network that was trained on the same images",
                "predictions out of sample are what confident learning assumes; the release that the code needs is from 2021",
                "not measured",
            ),
        ),
    )

    smoothing: float = parameter(
        0.25, gt=0, lt=1, low=0.05, high=0.5, help="Probability that flagged pixels give to other classes"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return short networks."""
        return ({"epochs": 2},)

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score every pixel, and report if none would be smoothed."""
        super().prepare(task, training_set)
        if not bool(self.state["flagged"].any()):
            self.warnings.append("no pixel is flagged, so no label is smoothed")

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's loss with smoothed targets of flagged pixels."""
        flagged = self.state["flagged"].view(-1)[batch.index]
        return inner_loss(batch.with_targets(smooth_flagged(batch.targets, flagged, self.smoothing)))


def smooth_flagged(targets: Tensor, flagged: Tensor, smoothing: float) -> Tensor:
    """Return (B, C) targets, smoothed where a pixel is flagged.

    Args:
        targets: (B, C) probabilities.
        flagged: (B,) bool.
        smoothing: probability that moves to other classes, in (0, 1).

    Example:
        >>> smooth_flagged(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([True, False]), 0.5)
        tensor([[0.5000, 0.2500, 0.2500],
                [0.0000, 1.0000, 0.0000]])
    """
    targets = targets.float()
    others = (1 - targets) / (targets.shape[1] - 1)
    return torch.where(flagged[:, None], (1 - smoothing) * targets + smoothing * others, targets)
