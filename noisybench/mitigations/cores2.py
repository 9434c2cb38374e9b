"""CORES2: confidence-regularized sample sieve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

EPSILON = 1e-8
"""Added to a probability before its logarithm is taken, so that the regularizer is bounded."""


class CORES2(LossFunction, DetectorProvider):
    """Reward confident predictions, and leave out examples whose loss is above that of a random label (CORES2).

    The regularizer subtracts the loss of a label drawn from the class frequencies, which keeps predictions
    confident; from `sieve_epoch` on, examples count whose loss is below its mean over all classes (Cheng et al. 2021). The
    class frequencies are those of the examples that passed the sieve, which is a detector, in the epoch before. This is the
    first phase of the paper; `cores2_star` has both.
    """

    fidelity = Fidelity(
        formula="L = CE(p, y) - β(e) · Σ_k q_k (-ln p_k) if CE(p, y) ≤ mean_k (-ln p_k) or e < sieve_epoch, else 0; q observed "
        "class frequencies; β increases linearly to reg_weight during ramp_epochs after warmup_epochs",
        reference="https://github.com/UCSC-REAL/cores",
        commit="cf0945e2d5eb4f38962913d51d6dff679099ad86",
        license="not stated",
        compared="loss, gradient, values of the sieve and selection of batches of 48 in epochs 3, 17, 30, 31, 39 and 60, with "
        "uneven class frequencies",
        difference="4.8e-7 in the loss, 1.6e-8 in the gradient, none in the values of the sieve",
        golden=("cores2",),
        deviations=(
            Deviation(
                "the first phase of the paper; `cores2_star` has the second one too, which trains a new network with consistency "
                "of augmented views",
                "most comparisons have the first phase alone",
                "published as CORES and CORES*: 83.6 and 91.7 on CIFAR-10N worst",
            ),
            Deviation(
                "the loss is divided by 1 + β, where the authors divide the learning rate",
                "the learning rate belongs to the budget",
                "none for SGD without momentum and weight decay, as theirs; with Adam, their learning rate would be up to three "
                "times smaller",
            ),
        ),
    )

    reg_weight: float = parameter(
        2.0, ge=0, low=0.5, high=4.0, help="Weight of the confidence regularizer after the ramp (beta)"
    )
    warmup_epochs: int = parameter(10, ge=0, low=0, high=20, help="Epochs of cross-entropy before the ramp")
    ramp_epochs: int = parameter(30, ge=1, low=5, high=40, help="Number of epochs until `reg_weight` is reached")
    sieve_epoch: int = parameter(31, ge=0, low=5, high=60, help="Epoch, from 0, from which examples are left out")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a schedule that ends within three epochs."""
        return ({"warmup_epochs": 0, "ramp_epochs": 2, "sieve_epoch": 1},)

    @property
    def requirements(self) -> Requirements:
        """The value of the sieve for each sample."""
        return Requirements(per_sample_state=True)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch in which the loss is not cross-entropy."""
        # The ramp begins with zero.
        first = min(self.warmup_epochs + 1, self.sieve_epoch)
        if budget.epochs > first:
            return []
        return [
            f"warmup_epochs={self.warmup_epochs} and sieve_epoch={self.sieve_epoch} leave cross-entropy in all "
            f"{budget.epochs} epochs; decrease one of them, or train more than {first} epochs"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Take the observed class frequencies, and initialize the values of the sieve with zero."""
        counts = torch.bincount(training_set.targets.long(), minlength=training_set.num_classes).float()
        self.state["counts"] = counts
        self.state["left_out"] = torch.zeros_like(counts)
        self.state["prior"] = counts / counts.sum()
        self.state["sieve"] = torch.zeros(len(training_set))

    def on_epoch_start(self, task: Learner) -> None:
        """Count the examples that are left out in this epoch from zero."""
        self.state["left_out"] = torch.zeros_like(self.state["counts"])

    def on_epoch_end(self, task: Learner) -> None:
        """Take the class frequencies of the examples that passed the sieve."""
        remaining = (self.state["counts"] - self.state["left_out"]).clamp_min(0)
        total = float(remaining.sum())
        self.diagnostics["left_out"] = 1 - total / float(self.state["counts"].sum())
        if total:
            self.state["prior"] = remaining / total
        if task.current_epoch == task.budget.epochs - 1 < self.sieve_epoch:
            self.warnings.append(
                f"no example was left out, because the sieve begins in epoch {self.sieve_epoch} of {task.budget.epochs}"
            )

    def regularizer_weight(self, epoch: int) -> float:
        """Return the weight of the regularizer in an epoch, from 0.

        >>> [round(CORES2().regularizer_weight(epoch), 3) for epoch in (0, 10, 11, 38, 39, 99)]
        [0.0, 0.0, 0.069, 1.931, 2.0, 2.0]
        """
        position = (epoch - self.warmup_epochs) / max(self.ramp_epochs - 1, 1)
        return self.reg_weight * min(max(position, 0.0), 1.0)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the regularized loss of the examples that pass the sieve, and keep their values."""
        logits = task.logits(batch.inputs)
        losses, by_class = cross_entropy(logits, batch), -(probabilities_in_float32(logits) + EPSILON).log()
        sieve = (losses - by_class.mean(1)).detach().float()
        # A step that overflows in half precision is skipped, and must leave no trace here either.
        self.state["sieve"][batch.index] = torch.where(sieve.isfinite(), sieve, self.state["sieve"][batch.index])
        weight = self.regularizer_weight(task.current_epoch)
        # The authors divide the learning rate instead.
        regularized = (losses - weight * (by_class * self.state["prior"]).sum(1)) / (1 + weight)
        if task.current_epoch < self.sieve_epoch:
            return regularized
        kept = (sieve <= 0).float()
        self.state["left_out"].index_add_(0, batch.observed, 1 - kept)
        # The caller takes the mean over the batch, which becomes that over the examples that are kept.
        return regularized * kept * (len(kept) / kept.sum().clamp_min(1))

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the sieve of this epoch: the loss of each example above its mean loss over all classes."""
        return {"sieve": Detector(self.state["sieve"], self.state["sieve"] > 0)}
