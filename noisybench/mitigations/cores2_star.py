"""CORES2 with both phases: a sample sieve, then consistency training of a new network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._semi_supervised import mean_of_parts, plan_steps
from noisybench.mitigations.cores2 import CORES2
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import Phase
from noisybench.training.roles import EpochPlanner
from noisybench.training.views import PolicyView

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

STRONG_VIEW = PolicyView("auto_augment_cifar10", cutout=(0.5, 0.5))
"""View that is trained in the second phase: 16 of 32 pixels are the authors' Cutout."""


class CORES2Star(CORES2, EpochPlanner):
    """Sieve examples as `cores2` does, then train a new network in which those left out have no labels (CORES*).

    In the first phase, SGD without momentum trains `cores2` at a constant learning rate (Cheng et al. 2021). In the second
    one, the budget's optimizer trains a new network with a cosine schedule: cross-entropy of a strong view of the examples
    that passed the sieve, and consistency of a weak and a strong view of the others (unsupervised data augmentation).
    """

    fidelity = Fidelity(
        formula="first phase: L of cores2;  second phase: L = mean over passed CE(p(strong), y) + unlabeled_weight · mean over "
        "left out KL(p(weak) ‖ p(strong)), without a gradient through p(weak)",
        reference="https://github.com/UCSC-REAL/cores",
        commit="cf0945e2d5eb4f38962913d51d6dff679099ad86",
        license="not stated",
        compared="examples that the sieve of an epoch leaves out; loss, weights and batch statistics of four SGD steps of the "
        "second phase with Nesterov momentum and clipped gradients, at two weights of the consistency; the first phase is "
        "that of cores2",
        difference="2.4e-7 in the loss, none in weights and statistics, no example",
        golden=("cores2", "cores2_star"),
        deviations=(
            Deviation(
                "labeled batches are drawn in random order; the authors spread each class evenly over an epoch",
                "all methods have one order of examples",
                "frequencies of classes vary from batch to batch; the accuracy was not measured",
            ),
            Deviation(
                "translations of the strong view have the range of AutoAugment's paper, 45 % of the width; 10 pixels in the "
                "authors' code",
                "all methods have torchvision's operations",
                "7 of the 25 pairs of operations; the accuracy was not measured",
            ),
            Deviation(
                "the warm-up of the learning rate begins with 0; 1/300 of its highest value in the authors' code",
                "all methods have one schedule",
                "1/300 of the highest learning rate in the first step, less in later ones",
            ),
        ),
    )

    sieve_phase_epochs: int = parameter(41, ge=1, low=11, high=60, help="Epochs of the first phase")
    sieve_learning_rate: float = parameter(
        0.1, gt=0, low=0.01, high=0.3, log=True, help="Learning rate of the first phase"
    )
    sieve_batch_size: int = parameter(64, ge=2, le=2**31, help="Number of examples in a batch of the first phase")
    unlabeled_fraction: float = parameter(
        0.2, gt=0, lt=1, low=0.1, high=0.5, help="Fraction of a batch of the second phase that the sieve left out"
    )
    unlabeled_weight: float = parameter(0.2, ge=0, low=0.1, high=2.0, help="Weight of the consistency of both views")
    lr_warmup_epochs: int = parameter(5, ge=0, help="Epochs of the second phase in which the learning rate rises")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a first phase of two epochs with a sieve."""
        first = {
            "warmup_epochs": 0,
            "ramp_epochs": 2,
            "sieve_epoch": 1,
            "sieve_phase_epochs": 2,
            "sieve_batch_size": 24,
        }
        return ({**first, "lr_warmup_epochs": 0},)

    @property
    def requirements(self) -> Requirements:
        """Two phases, of which the second has new weights and reads a strong view."""
        sgd = {
            "optimizer": "sgd", "learning_rate": self.sieve_learning_rate, "lr_schedule": "constant", "momentum": 0.0,
            "weight_decay": 0.0,
        }  # fmt: skip
        cosine = {"lr_schedule": "cosine", "warmup_epochs": self.lr_warmup_epochs}
        return Requirements(
            views=("weak", STRONG_VIEW),
            per_sample_state=True,
            phases=(
                Phase(self.sieve_phase_epochs, settings=sgd),
                Phase(weights="fresh", settings=cosine),
            ),
        )

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the first phase is more than cross-entropy, and that both parts of a batch have examples."""
        problems, first = [], min(self.warmup_epochs + 1, self.sieve_epoch)
        if self.sieve_phase_epochs <= first:
            problems.append(
                f"warmup_epochs={self.warmup_epochs} and sieve_epoch={self.sieve_epoch} leave cross-entropy in all "
                f"{self.sieve_phase_epochs} epochs of the first phase; decrease one of them, or set sieve_phase_epochs to more "
                f"than {first}"
            )
        rest = budget.epochs - self.sieve_phase_epochs
        if 0 < rest <= self.lr_warmup_epochs:
            problems.append(
                f"lr_warmup_epochs={self.lr_warmup_epochs} takes the whole second phase of {rest} epochs; decrease it, or train "
                "longer"
            )
        labeled, unlabeled = self._sizes(budget.batch_size)
        if labeled < 2 or unlabeled < 1:
            problems.append(
                f"unlabeled_fraction={self.unlabeled_fraction:g} of a batch of {budget.batch_size} leaves {labeled} labeled and "
                f"{unlabeled} unlabeled examples, but at least 2 and 1 are needed; change it, or increase budget.batch_size"
            )
        return problems

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        """Return the number of labeled and of unlabeled examples in a batch of the second phase."""
        unlabeled = round(self.unlabeled_fraction * batch_size)
        return batch_size - unlabeled, unlabeled

    def on_epoch_start(self, task: Learner) -> None:
        """Count the examples that are left out in an epoch of the first phase from zero."""
        if not self._is_second_phase(task):
            super().on_epoch_start(task)

    def on_epoch_end(self, task: Learner) -> None:
        """Take the class frequencies of the examples that passed the sieve, in the first phase."""
        if not self._is_second_phase(task):
            super().on_epoch_end(task)

    def _is_second_phase(self, task: Learner) -> bool:
        return task.current_epoch >= self.sieve_phase_epochs

    def plan_epoch(self, task: Learner) -> list[BatchPlan]:
        """Return batches of all examples in the first phase; then of those that passed the sieve and of the others."""
        order = task.sampler.epoch_order(task.current_epoch)
        if not self._is_second_phase(task):
            parts = torch.split(order, self.sieve_batch_size)
            # A single example has no batch statistics.
            return [BatchPlan(part) for part in parts if len(part) > 1 or len(parts) == 1]
        passed = self.state["sieve"][order] <= 0
        labeled, unlabeled = order[passed], order[~passed]
        if len(labeled) < 2:
            self.warnings.append("fewer than two examples passed the sieve, so that all labels are used")
            labeled, unlabeled = order, order[:0]
        size, others = self._sizes(task.budget.batch_size)
        self._num_labeled = min(size, len(labeled))
        # Examples that fill no batch are left out, as in the authors' code.
        return plan_steps(labeled, unlabeled, (self._num_labeled, others), len(labeled) // self._num_labeled)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the loss of the first phase, or cross-entropy and consistency in the second."""
        if not self._is_second_phase(task):
            return super().loss(task, batch)
        size, strong = self._num_labeled, batch.views[STRONG_VIEW]
        count = len(strong) - size
        logits = task.logits(torch.cat([strong[:size], batch.inputs[size:], strong[size:]])).float()
        supervised, weak, consistent = torch.split(logits, [size, count, count])
        labeled = functional.cross_entropy(supervised, batch.targets[:size].float(), reduction="none")
        target = weak.detach().softmax(1)
        unlabeled = functional.kl_div(consistent.log_softmax(1), target, reduction="none").sum(1)
        return mean_of_parts(labeled, self.unlabeled_weight * unlabeled)
