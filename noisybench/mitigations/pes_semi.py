"""PES (semi): progressive early stopping, followed by MixMatch on confident examples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._pseudo_labels import sharpen
from noisybench.mitigations._semi_supervised import (
    mean_of_parts,
    mixed_scores,
    mixmatch_losses,
    plan_steps,
    ramp_weight,
    unreached_weight,
)
from noisybench.mitigations.pes import PES
from noisybench.training.batch import Batch, BatchPlan, probabilities_in_float32
from noisybench.training.mitigation import Requirements

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

LATE_ALPHA = 0.75
"""Parameter of mixup's Beta distribution in the second half of the training."""

MAX_CLASS_WEIGHT = 3.0
"""Largest weight of a class among the confident examples."""


class PESSemi(PES):
    """Stop the training of late layers early as `pes` does, then train with MixMatch on the labels that are predicted.

    After a few epochs, the classifier is initialized again and trained briefly. From then on, examples whose labels the
    network predicts are labeled, and the others get sharpened mean predictions of two views (Bai et al. 2021). All are mixed;
    unlabeled ones are trained with the squared error, and classes are weighted by their number of labeled examples.
    """

    fidelity = Fidelity(
        formula="L = mean over labeled Σ_c w_c y'_c (-ln p_c) + unlabeled_weight · ramp · mean over unlabeled and classes "
        "(p - y')²; w_c = min(mean count / count of class c among the labeled, 3); x', y' mixed with Beta(alpha, alpha)",
        reference="https://github.com/tmllab/PES",
        commit="54662382dca22f314911488d79711cffa7fbf1a0",
        license="not stated",
        compared="sizes of both parts of a batch, examples and class weights of three divisions; weights and batch statistics "
        "after two steps of SGD in the ramp and two in the second half of the training, from the same mixing; the epochs before "
        "are those of pes",
        difference="3.0e-8 in weights and statistics; none in divisions and class weights",
        golden=("pes", "pes_semi"),
        deviations=(
            Deviation(
                "labels are compared with predictions without augmentation; the authors average those of two augmented views",
                "these predictions exist after every epoch",
                "two passes over the training set fewer per epoch; the division differs where augmentation changes the class",
            ),
            Deviation(
                "labeled and unlabeled examples are repeated in one order per epoch; the authors shuffle them anew each time and "
                "leave out those that fill no batch",
                "an epoch is planned in advance",
                "order only",
            ),
            Deviation(
                "SGD has no momentum from before when it continues; the authors keep its state",
                "every phase begins with a new optimizer",
                "the first steps after the classifier was trained alone",
            ),
        ),
    )

    warmup_epochs: int = parameter(
        20, ge=1, low=3, high=40, help="Epochs of cross-entropy before layers are trained again"
    )
    last_stage_epochs: int = parameter(0, ge=0, low=0, high=10, help="Epochs of the last stage with the classifier")
    classifier_epochs: int = parameter(5, ge=0, low=0, high=10, help="Epochs of the classifier alone")
    trains: Literal["early", "all"] = parameter(
        "all",
        help="Layers trained with MixMatch: `all`, as in the authors' code, or `early`, without re-initialized ones",
    )
    unlabeled_weight: float = parameter(
        5.0, ge=0, low=1.0, high=150.0, log=True, help="Weight of the squared error on unlabeled examples (lambda_u)"
    )
    sharpening: float = parameter(
        2.0, ge=1, low=1.0, high=4.0, help="Power to which pseudo-labels are raised, 1 / temperature"
    )
    alpha: float = parameter(
        4.0,
        gt=0,
        low=0.5,
        high=8.0,
        help="Both parameters of mixup's Beta distribution in the first half of the training",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a short beginning, with the classifier trained again and without."""
        first = {"warmup_epochs": 1, "classifier_epochs": 1, "late_learning_rate": 0.01}
        return first, {**first, "classifier_epochs": 0}

    @property
    def requirements(self) -> Requirements:
        """The phases of `pes`, and two weak views that are mixed."""
        return dataclasses.replace(super().requirements, views=("weak", "weak_2"), mixes_samples=True)

    def _select(self, task: Learner) -> None:
        super()._select(task)
        self.state["class_weights"] = self.state["class_weights"].clamp_max(MAX_CLASS_WEIGHT)

    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """Return as many batches of labeled and unlabeled examples as all examples fill."""
        if not self._selects(task):
            return None
        order, size = task.sampler.epoch_order(task.current_epoch), task.budget.batch_size
        confident = self.state["confident"][order]
        labeled, unlabeled = order[confident], order[~confident]
        size = min(size, len(order))
        # Half of a batch at most, as in the authors' code.
        others = size // 2 if len(unlabeled) > len(labeled) else len(unlabeled) * size // len(order)
        self._num_labeled, self._num_steps, self._steps_done = size - others, len(order) // size, 0
        return plan_steps(labeled, unlabeled, (self._num_labeled, others), self._num_steps)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the loss of `pes` before examples are divided, then that of MixMatch."""
        if not self._selects(task):
            return super().loss(task, batch)
        views, size = [batch.views["weak"], batch.views["weak_2"]], self._num_labeled
        targets = self._targets(task, batch, views)
        # The epochs of the classifier are no part of the authors' count.
        late = self.last_stage_epochs + self.classifier_epochs
        is_late = 2 * (task.current_epoch - late) >= task.budget.epochs - late
        logits, mixed = mixed_scores(task, views, targets, LATE_ALPHA if is_late else self.alpha, 0)
        labeled, unlabeled = mixmatch_losses(logits, mixed, len(views), size, self.state["class_weights"])
        weight = ramp_weight(task.current_epoch + self._steps_done / self._num_steps - self._end)
        self._steps_done += 1
        return mean_of_parts(labeled, self.unlabeled_weight * weight * unlabeled)

    @torch.no_grad()
    def _targets(self, task: Learner, batch: Batch, views: list[Tensor]) -> Tensor:
        """Return (B, C) targets: observed labels, and pseudo-labels of the unlabeled examples."""
        size, observed = self._num_labeled, batch.targets.float()
        if size == len(observed):
            return observed
        # Two passes, as in the authors' code: each of them has batch statistics of its own.
        predictions = [probabilities_in_float32(task.logits(view[size:])) for view in views]
        return torch.cat([observed[:size], sharpen(torch.stack(predictions).mean(0), self.sharpening)])

    def on_epoch_end(self, task: Learner) -> None:
        """Report in the last epoch whether the ramp was too long to reach the weight of unlabeled examples."""
        self.warnings += unreached_weight(task, self._end)
