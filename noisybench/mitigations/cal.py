"""CAL: covariance-assisted learning, a second-order approach to noise that depends on the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._peers import EPSILON, bounded_cross_entropy
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import Phase
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

LABEL_EPSILON = 1e-8
"""Added to the probability of a label before its logarithm is taken, so that its loss is at most 18.4 nats."""


class CAL(LossFunction, DetectorProvider):
    """Subtract the covariance between noise and loss, which noise that depends on the input adds (CAL).

    A first network is trained with the confidence regularizer of `cores2`. In its last epoch it keeps the labels whose loss
    is far below the mean over all classes, and replaces the others by its predictions (Zhu et al. 2021). A second network
    starts from fresh weights. Its loss subtracts, for each corrected class, the covariance of its losses with the observed
    label, so that what remains is the loss under noise that depends on the class only. Both are phases of one run, each
    with the budget's schedule from its beginning.
    """

    fidelity = Fidelity(
        formula="L = CE(p, y) - α(e) · Σ_k q_k (-ln p_k) - Σ_d P(d) · mean over d of Σ_k (1[y = k] - P(k | d)) · "
        "(-ln p_k - m_dk) with corrected classes d, observed frequencies q and mean losses m of the epoch before; first phase "
        "without the last term and with q ∝ √frequency",
        reference="https://github.com/UCSC-REAL/CAL",
        commit="bdb376bb0300616937c5369f24350617f495c61b",
        license="MIT",
        compared="weights of a linear network after each epoch of both phases, corrected labels and mean losses, with 60 "
        "examples of 5 classes in batches of 16",
        difference="3.0e-8 in the weights, 4.8e-7 in the mean losses, no corrected label",
        golden=("cal",),
        deviations=(
            Deviation(
                "the loss is divided by 1 + α, where the authors divide the learning rate",
                "the learning rate belongs to the budget",
                "weight decay has up to three times the effect in the first phase, and up to twice in the second; none otherwise "
                "with SGD",
            ),
            Deviation(
                "the first phase ends with the epoch that corrects the labels, and with it the schedule; the authors train on "
                "for 34 epochs, which nothing reads",
                "it trains nothing",
                "none for schedules of milestones",
            ),
        ),
    )

    sieve_epochs: int = parameter(
        10, ge=1, low=5, high=70, help="Epochs of the first network, which corrects labels in the last one"
    )
    sieve_reg_weight: float = parameter(
        2.0, ge=0, low=0.5, high=4.0, help="Weight of the confidence regularizer of the first network after the ramp"
    )
    sieve_threshold: float = parameter(
        8.0, low=1.0, high=10.0, help="Nats below the mean loss of all classes from which a label is kept"
    )
    reg_weight: float = parameter(
        1.0,
        ge=0,
        low=0.5,
        high=2.0,
        help="Weight of the confidence regularizer of the second network after the ramp (alpha)",
    )
    prior_scale: float = parameter(
        1.0, gt=0, low=1.0, high=10.0, log=True, help="Factor of the regularizer, by which the loss is not divided"
    )
    warmup_epochs: int = parameter(
        3, ge=0, low=0, high=20, help="Epochs of each network without the regularizer, before its ramp"
    )
    ramp_epochs: int = parameter(5, ge=1, low=5, high=40, help="Epochs in which the regularizer reaches its weight")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a short first phase."""
        return ({"sieve_epochs": 1, "warmup_epochs": 0, "ramp_epochs": 1},)

    @property
    def requirements(self) -> Requirements:
        """Two phases, the second with fresh weights, and a corrected label of each sample."""
        phases = (Phase(self.sieve_epochs, restarts_schedule=True), Phase(weights="fresh", restarts_schedule=True))
        return Requirements(phases=phases, per_sample_state=True)

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Count the observed classes, and start with the observed labels."""
        count, classes = len(training_set), training_set.num_classes
        counts = torch.bincount(training_set.targets.long(), minlength=classes).float()
        self.state = {
            "frequencies": counts / counts.sum(),
            "sieve": torch.zeros(count),
            "labels": training_set.targets.long().clone(),
            # By corrected class: its frequency, those of the observed classes, and the losses of all classes.
            "shares": torch.zeros(classes),
            "transition": torch.zeros(classes, classes),
            "mean_loss": torch.zeros(classes, classes),
            "loss_sum": torch.zeros(classes, classes),
            "loss_count": torch.zeros(classes),
        }

    def on_epoch_start(self, task: Learner) -> None:
        """Sum the losses of this epoch from zero, and count the corrected labels at the start of the second phase."""
        self.state["loss_sum"] = torch.zeros_like(self.state["loss_sum"])
        self.state["loss_count"] = torch.zeros_like(self.state["loss_count"])
        if task.current_epoch == self.sieve_epochs:
            labels, observed, classes = self.state["labels"], task.training_set.targets, task.training_set.num_classes
            weights = task.sampler.weights
            # Another mitigation may leave out examples for the whole run, whose labels are not corrected.
            kept = torch.ones_like(labels, dtype=torch.bool) if weights is None else weights > 0
            pairs = (labels * classes + observed)[kept].bincount(minlength=classes**2).view(classes, classes).float()
            by_class = pairs.sum(1)
            self.state["shares"] = by_class / by_class.sum()
            self.state["transition"] = pairs / by_class.clamp_min(1)[:, None]

    def on_epoch_end(self, task: Learner) -> None:
        """Take the mean losses of the corrected classes, or the fraction of corrected labels."""
        if task.current_epoch >= self.sieve_epochs:
            self.state["mean_loss"] = self.state["loss_sum"] / self.state["loss_count"].clamp_min(1)[:, None]
        elif task.current_epoch == self.sieve_epochs - 1:
            changed = self.state["labels"] != task.training_set.targets
            self.diagnostics["corrected_fraction"] = float(changed.float().mean())

    def regularizer_weight(self, epoch: int) -> float:
        """Return the weight of the regularizer in an epoch of the run, from 0.

        >>> [round(CAL().regularizer_weight(epoch), 3) for epoch in (0, 3, 4, 9, 10, 14, 18)]
        [0.0, 0.0, 0.4, 2.0, 0.0, 0.2, 1.0]
        """
        is_second = epoch >= self.sieve_epochs
        position = (epoch - self.sieve_epochs * is_second - self.warmup_epochs) / self.ramp_epochs
        return (self.reg_weight if is_second else self.sieve_reg_weight) * min(max(position, 0.0), 1.0)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the regularized loss, and correct the labels of the batch in the first phase."""
        is_second = task.current_epoch >= self.sieve_epochs
        logits = task.logits(batch.inputs)
        by_class = -(probabilities_in_float32(logits) + EPSILON).log()
        frequencies = self.state["frequencies"] if is_second else self.state["frequencies"].sqrt()
        prior = self.prior_scale * frequencies / frequencies.sum()
        weight = self.regularizer_weight(task.current_epoch)
        losses = bounded_cross_entropy(logits, batch, LABEL_EPSILON) - weight * (by_class * prior).sum(1)
        if is_second:
            losses = losses - self._covariance(by_class, batch)
        elif task.current_epoch == self.sieve_epochs - 1:
            self._correct(logits.detach(), batch)
        # The authors divide the learning rate instead.
        return losses / (1 + weight)

    def _correct(self, logits: Tensor, batch: Batch) -> None:
        """Keep the labels with a loss far below the mean over all classes, and replace the others by predictions."""
        losses = -(probabilities_in_float32(logits) + LABEL_EPSILON).log()
        sieve = losses.gather(1, batch.observed[:, None]).squeeze(1) - losses.mean(1)
        labels = torch.where(sieve < -self.sieve_threshold, batch.observed, logits.argmax(1))
        # A step that overflows in half precision is skipped, and must leave no trace here either.
        known, index = sieve.isfinite(), batch.index
        self.state["sieve"][index] = torch.where(known, sieve, self.state["sieve"][index])
        self.state["labels"][index] = torch.where(known, labels, self.state["labels"][index])

    def _covariance(self, by_class: Tensor, batch: Batch) -> Tensor:
        """Return (B,) parts of the covariances of losses and observed labels in the corrected classes, whose mean is their sum.

        Args:
            by_class: (B, C) losses of all classes in nats.
            batch: batch with observed labels.
        """
        labels = self.state["labels"][batch.index]
        members = functional.one_hot(labels, batch.num_classes).to(by_class.dtype)
        self.state["loss_sum"] += members.T @ by_class.detach()
        counts = members.sum(0)
        self.state["loss_count"] += counts
        noise = functional.one_hot(batch.observed, batch.num_classes) - self.state["transition"][labels]
        products = (noise * (by_class - self.state["mean_loss"][labels])).sum(1)
        return products * (self.state["shares"] / counts.clamp_min(1))[labels] * len(labels)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the labels of the first network, once it has corrected them."""
        return self.state["labels"] if task.current_epoch >= self.sieve_epochs - 1 else None

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the excess of each label's loss over its mean over all classes; flagged if the label was replaced."""
        if task.current_epoch < self.sieve_epochs - 1:
            return {}
        return {"sieve": Detector(self.state["sieve"], self.state["labels"] != training_set.targets)}
