"""DISC: dynamic instance-specific selection and correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations.gce import generalized_cross_entropy
from noisybench.mitigations.mixup import draw_partners
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import PolicyView

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

Q = 0.7
"""Exponent of the generalized cross-entropy on hard examples."""

HIGHEST_THRESHOLD = 0.99
"""Confidence from which a class is corrected, however confident an example has been before."""


class DISC(LossFunction, DetectorProvider):
    """Select and correct labels by a threshold of each example, its mean confidence so far, in two views (DISC).

    After each epoch, a label is clean if both views predict it with more than the example's threshold, and hard if one of
    them does (Li et al. 2023). Other examples get the class of the mean prediction if it exceeds the threshold by a margin.
    After a warm-up, clean examples are trained with cross-entropy, hard ones with the generalized cross-entropy, and all of
    these, with corrected classes, with mixup. The thresholds detect incorrect labels.
    """

    fidelity = Fidelity(
        formula="L = (Σ_clean CE + hard_weight · Σ_hard GCE) / B + mean over clean, hard and corrected of the mixup loss, for "
        "both views; threshold ← momentum · threshold + (1 - momentum) · max p",
        reference="https://github.com/JackYFL/DISC",
        commit="a21e910bffeb34873684937ac1066991a720552a",
        license="not stated",
        compared="weights, batch statistics, probabilities, thresholds, clean, hard and corrected examples and their classes "
        "after each of six epochs of two steps, at two weights of hard examples",
        difference="1.2e-7 in weights, statistics and thresholds, 1.8e-7 in probabilities, no selection and no class",
        golden=("disc",),
        deviations=(
            Deviation(
                "the strong view has RandAugment of torchvision with one magnitude, before the crop; the authors draw magnitudes "
                "up to half (CIFAR-10) or all of the range of 16 similar operations, after the crop",
                "all methods have the same operations",
                "strength of the strong view; the accuracy was not measured",
            ),
            Deviation(
                "a batch with fewer than two selected examples has no mixup; the authors' code mixes a single one with itself",
                "batch normalization needs two examples",
                "batches with a single selected example",
            ),
        ),
    )

    warmup_epochs: int = parameter(20, ge=1, low=5, high=30, help="Epochs of cross-entropy before the first selection")
    momentum: float = parameter(0.99, ge=0, lt=1, low=0.9, high=0.99, help="Momentum of the thresholds")
    margin: float = parameter(
        0.5,
        ge=0,
        le=1,
        low=0.1,
        high=0.7,
        help="Confidence above the threshold from which a class is corrected (sigma)",
    )
    hard_weight: float = parameter(1.0, ge=0, low=0.1, high=2.0, help="Weight of the loss on hard examples (lambda_h)")
    alpha: float = parameter(5.0, gt=0, low=0.5, high=8.0, help="Both parameters of mixup's Beta distribution")
    magnitude: int = parameter(
        8, ge=0, le=30, low=4, high=20, help="Magnitude of the two operations of RandAugment in the strong view"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a short warm-up, with thresholds that follow quickly."""
        return ({"warmup_epochs": 1, "momentum": 0.5, "margin": 0.1},)

    @property
    def strong_view(self) -> PolicyView:
        """Two operations of RandAugment, each with probability one half, and a small square of Cutout."""
        return PolicyView("rand_augment", magnitude=self.magnitude, probability=0.5, cutout=(0.15, 0.15))

    @property
    def requirements(self) -> Requirements:
        """A weak and a strong view, with state of each example."""
        return Requirements(views=("weak", self.strong_view), per_sample_state=True, mixes_samples=True)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the warm-up ends before training."""
        if self.warmup_epochs < budget.epochs:
            return []
        return [
            f"the warm-up takes {self.warmup_epochs} of {budget.epochs} epochs, so that no label would be selected; decrease "
            "warmup_epochs or train longer"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Start from low thresholds and the observed targets."""
        count = len(training_set)
        self.state = {
            # By view: weak and strong.
            "probabilities": torch.zeros(2, count, training_set.num_classes),
            "thresholds": torch.full((2, count), 1 / count),
            "clean": torch.zeros(count, dtype=torch.bool),
            "hard": torch.zeros(count, dtype=torch.bool),
            "corrected": torch.zeros(count, dtype=torch.bool),
            "labels": training_set.targets.clone(),
        }

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy of both views in the warm-up, then the losses of the selected and corrected examples."""
        views = [batch.inputs, batch.views[self.strong_view]]
        logits = task.logits(torch.cat(views))
        weak, strong = logits.chunk(2)
        found = torch.stack([probabilities_in_float32(scores.detach()) for scores in (weak, strong)])
        # A step that overflows in half precision is skipped, and must leave no trace here either.
        known = self.state["probabilities"][:, batch.index]
        self.state["probabilities"][:, batch.index] = torch.where(found.isfinite(), found, known)
        losses = cross_entropy(weak, batch) + cross_entropy(strong, batch)
        if task.current_epoch < self.warmup_epochs:
            return losses
        clean, hard = self.state["clean"][batch.index], self.state["hard"][batch.index]
        robust = sum(generalized_cross_entropy(scores, batch.targets, Q) for scores in (weak, strong))
        selected = torch.where(clean, losses, 0.0) + torch.where(hard, self.hard_weight * robust, 0.0)
        mixed = torch.nonzero(clean | hard | self.state["corrected"][batch.index]).squeeze(1)
        if len(mixed) < 2:
            return selected
        targets = functional.one_hot(self.state["labels"][batch.index[mixed]], batch.num_classes).float()
        # The mean over the mixed examples, which the mean over the batch keeps.
        return selected + sum(self._mixup_loss(task, view[mixed], targets) for view in views)

    def _mixup_loss(self, task: Learner, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of mixed examples."""
        weight, partner = draw_partners(self.alpha, inputs, task.rng, task.generator)
        weight = max(weight, 1 - weight)
        logits = task.logits(inputs.lerp(inputs[partner], 1 - weight))
        return functional.cross_entropy(logits.float(), targets.lerp(targets[partner], 1 - weight))

    def on_epoch_end(self, task: Learner) -> None:
        """Select and correct labels by the thresholds of the epochs before, and move the thresholds."""
        state, observed = self.state, task.training_set.targets
        probabilities, thresholds = state["probabilities"], state["thresholds"]
        by_view = probabilities.gather(2, observed[None, :, None].expand(2, -1, 1)).squeeze(2) > thresholds
        state["clean"], state["hard"] = by_view.all(0), by_view[0] ^ by_view[1]
        confidence, classes = probabilities.mean(0).max(1)
        needed = (thresholds.mean(0) + self.margin).clamp_max(HIGHEST_THRESHOLD)
        state["corrected"] = (confidence > needed) & ~by_view.any(0)
        state["labels"] = torch.where(
            state["corrected"], classes, torch.where(by_view.any(0), observed, state["labels"])
        )
        state["thresholds"] = torch.lerp(probabilities.amax(2), thresholds, self.momentum)
        for name in ("clean", "hard", "corrected"):
            self.diagnostics[name] = float(state[name].float().mean())

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the corrected classes, and the observed ones of all other examples."""
        return torch.where(self.state["corrected"], self.state["labels"], training_set.targets)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the mean excess of the thresholds over the probability of the label; flagged if neither view selects it."""
        own = self.state["probabilities"].gather(2, training_set.targets[None, :, None].expand(2, -1, 1)).squeeze(2)
        return {
            "selection": Detector((self.state["thresholds"] - own).mean(0), ~(self.state["clean"] | self.state["hard"]))
        }
