"""Confident learning for masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._confident_pixels import ConfidentPixels
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class PixelConfidentLearning(ConfidentPixels, LossWrapper):
    """Detect incorrect pixels in out-of-sample predictions with cleanlab.

    Networks are trained on all but one fold of the images in turn, and predict that fold (Northcutt et al. 2021). The
    score of a pixel is one minus the probability of its label. Pixels that cleanlab's label inspector reports, and
    whose predicted class differs from the label, are flagged. Training is unchanged unless `drop` leaves flagged
    pixels out. Requires cleanlab: `pip install cleanlab`.
    """

    tasks = ("segmentation",)

    fidelity = Fidelity(
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="scores and flags of all pixels of a fold, with cleanlab.segmentation on the same probabilities",
        difference="1.2e-4 in the scores (half precision, at most 2.4e-4); no flag differs",
        deviations=(
            Deviation(
                "cleanlab has no pixels without a label; here they are left out of thresholds and counts, and not flagged",
                "masks have such pixels",
                "none without them",
            ),
        ),
    )

    drop: bool = parameter(False, help="Leave flagged pixels out of training", always_in_label=True)

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return detection only, and flagged pixels left out."""
        return {"epochs": 1}, {"epochs": 2, "drop": True}

    @property
    def requirements(self) -> Requirements:
        """The same training as without it, unless flagged pixels are left out."""
        return Requirements(keeps_weights="" if self.drop else "it detects incorrect pixels, and drop=False keeps them")

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score every pixel, and report if none would be left out."""
        super().prepare(task, training_set)
        if self.drop and not bool(self.state["flagged"].any()):
            self.warnings.append("no pixel is flagged, so none is left out")

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's loss, on unflagged pixels only if `drop` is set."""
        if not self.drop:
            return inner_loss(batch)
        kept = ~self.state["flagged"].view(-1)[batch.index]
        labeled = torch.ones_like(kept) if batch.has_label is None else batch.has_label
        kept = kept & labeled
        losses = inner_loss(batch.with_labels(batch.observed, kept))
        # The caller takes the mean over all labeled pixels, so the kept ones are scaled up by the inverse of their share.
        return losses * kept * (labeled.sum() / kept.sum().clamp_min(1))
